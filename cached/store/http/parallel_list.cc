#include "cached/store/http/parallel_list.h"

#include <algorithm>
#include <list>
#include <thread>

#include "cached/base/mutex.h"

namespace larder {
namespace {

// How far ahead of what was handed on folders are listed: bounds the memory to some 100,000 objects in the usual case.
constexpr size_t kNodesAhead = 256;

constexpr size_t kMostStarts = 128;
constexpr std::string_view kLast = "\xf4\x8f\xbf\xbf";  // U+10FFFF: after whatever a key has

// Of the character at the front; 0: it is no UTF-8.
size_t character_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  return length <= text.size() ? length : 0;
}

bool by_key(const ObjectInfo& a, const ObjectInfo& b) {
  return a.key < b.key;
}

}  // namespace

// A folder (or any beginning of keys), or objects that are known already. Nodes stand in byte order of what they hold.
struct ParallelList::Node {
  std::string folder;
  std::vector<ObjectInfo> objects;
  size_t patience = kPatience;
  bool started = false;
  bool done = false;
};

struct ParallelList::State {
  explicit State(const ParallelList& of) : list(of), nodes(1) {}

  const ParallelList& list;
  Mutex mutex;
  CondVar changed;
  // A node that is started and not done belongs to the thread that lists it.
  std::list<Node> nodes GUARDED_BY(mutex);
  Status failed GUARDED_BY(mutex);
  bool over GUARDED_BY(mutex) = false;

  // The first folder that nobody lists yet, near the front.
  Node* pick() REQUIRES(mutex) {
    size_t looked = 0;
    for (auto it = nodes.begin(); it != nodes.end() && looked < kNodesAhead; ++it, ++looked) {
      if (!it->started) return &*it;
    }
    return nullptr;
  }

  // The next folder to list; null: there is nothing more to do.
  Node* await_folder() REQUIRES(mutex) {
    while (!over && failed.ok()) {
      if (Node* node = pick(); node != nullptr) return node;
      changed.wait(mutex);
    }
    return nullptr;
  }

  void work() {
    MutexLock lock(mutex);
    while (Node* node = await_folder()) {
      node->started = true;
      lock.unlock();
      Status status = list_folder(*node);
      lock.lock();
      if (!status.ok() && failed.ok()) failed = status;
      changed.notify_all();
    }
  }

  Status list_folder(Node& node) {
    auto first = list.ask_(node.folder, false, {});
    if (!first.ok()) return first.error();
    if (!first->next.empty() && worth_splitting(node.folder, first->objects)) return split(node);
    std::vector<ObjectInfo> objects = std::move(first->objects);
    size_t pages = 1;
    for (std::string next = first->next; !next.empty();) {
      if (pages++ == node.patience && split_by_start(node, objects)) return {};
      auto page = list.ask_(node.folder, false, next);
      if (!page.ok()) return page.error();
      if (page->next == next) return make_error(EIO, "the store's list does not advance");
      next = page->next;
      std::move(page->objects.begin(), page->objects.end(), std::back_inserter(objects));
    }
    std::stable_sort(objects.begin(), objects.end(), by_key);  // stores on top of folders have another order
    MutexLock lock(mutex);
    node.objects = std::move(objects);
    node.done = true;
    return {};
  }

  // A page of it tells how many keys its folders have.
  bool worth_splitting(const std::string& folder, const std::vector<ObjectInfo>& objects) const {
    const size_t skip = list.prefix_.size() + folder.size();
    size_t folders = 0;
    std::string_view last;
    for (auto& object : objects) {
      const size_t slash = object.key.find('/', skip);
      if (slash == std::string::npos) continue;
      const std::string_view name = std::string_view(object.key).substr(0, slash + 1);
      folders += name != last;
      last = name;
    }
    return folders == 1 || (folders > 0 && objects.size() / folders >= kWorthSplitting);
  }

  // The beginnings of all keys below the node, a character longer than what they have in common. Empty: not to be told,
  // by keys that are no UTF-8, or a store whose order is another one.
  std::vector<std::string> starts(const Node& node, const std::string& first) const {
    std::string above = list.prefix_ + node.folder;
    for (;;) {
      std::vector<std::string> out;
      for (std::string key = first; !key.empty();) {
        if (!key.starts_with(above) || out.size() == kMostStarts) return {};
        std::string after = key;
        if (key.size() > above.size()) {
          const size_t length = character_length(std::string_view(key).substr(above.size()));
          if (length == 0 || (!out.empty() && key.substr(0, above.size() + length) <= out.back())) return {};
          after = out.emplace_back(key.substr(0, above.size() + length)) + std::string(kLast);
        } else if (key != first) {
          return {};
        }
        auto next = list.first_after_(node.folder, after);
        if (!next.ok()) return {};
        key = std::move(*next);
      }
      if (out.size() != 1) return out;
      above = std::move(out.front());
    }
  }

  bool split_by_start(Node& node, const std::vector<ObjectInfo>& seen) {
    if (!list.first_after_) return false;
    const ObjectInfo& first = seen.front();
    const std::vector<std::string> all = starts(node, first.key);
    if (all.size() < 2) return false;
    std::vector<ObjectInfo> shorter;  // a key that all others begin with
    if (all.front() > first.key && !first.key.starts_with(all.front()))
      std::copy_if(seen.begin(), seen.end(), std::back_inserter(shorter), [&](auto& o) { return o.key == first.key; });
    replace(node, std::move(shorter), all);
    return true;
  }

  // The node becomes what is in it: objects and folders, in byte order.
  Status split(Node& node) {
    std::vector<ObjectInfo> objects;
    std::vector<std::string> folders;
    std::string next;
    do {
      auto page = list.ask_(node.folder, true, next);
      if (!page.ok()) return page.error();
      if (!page->next.empty() && page->next == next) return make_error(EIO, "the store's list does not advance");
      next = page->next;
      std::move(page->objects.begin(), page->objects.end(), std::back_inserter(objects));
      std::move(page->folders.begin(), page->folders.end(), std::back_inserter(folders));
    } while (!next.empty());
    std::stable_sort(objects.begin(), objects.end(), by_key);
    std::sort(folders.begin(), folders.end());
    folders.erase(std::unique(folders.begin(), folders.end()), folders.end());
    const std::string above = list.prefix_ + node.folder;
    for (auto& folder : folders) {
      if (folder.size() <= above.size() || !folder.starts_with(above) || folder.back() != '/')
        return make_error(EIO, "the store listed a folder that is not below the one that was asked for");
    }
    replace(node, std::move(objects), folders);
    return {};
  }

  void replace(Node& node, std::vector<ObjectInfo> objects, const std::vector<std::string>& folders) {
    std::list<Node> in;
    auto object = objects.begin();
    auto objects_before = [&](const std::string* folder) {
      auto end = folder ? std::find_if(object, objects.end(), [&](auto& o) { return o.key > *folder; }) : objects.end();
      if (end == object) return;
      Node& n = in.emplace_back();
      n.objects.assign(std::make_move_iterator(object), std::make_move_iterator(end));
      n.started = n.done = true;
      object = end;
    };
    for (auto& folder : folders) {
      objects_before(&folder);
      Node& n = in.emplace_back();
      n.folder = folder.substr(list.prefix_.size());
      n.patience = std::max(kPatience, 2 * folders.size());  // what one more split would ask for must be worth it
    }
    objects_before(nullptr);
    MutexLock lock(mutex);
    auto at = std::find_if(nodes.begin(), nodes.end(), [&](auto& n) { return &n == &node; });
    nodes.splice(std::next(at), in);
    at->done = true;  // it has nothing of its own any more
  }

  Status hand_on() {
    MutexLock lock(mutex);
    while (!nodes.empty()) {
      while (failed.ok() && !nodes.front().done)
        changed.wait(mutex);
      if (!failed.ok()) return failed;
      std::vector<ObjectInfo> objects = std::move(nodes.front().objects);
      nodes.pop_front();
      changed.notify_all();
      if (objects.empty()) continue;
      lock.unlock();
      if (auto status = list.page_(std::move(objects)); !status.ok()) return status;
      lock.lock();
    }
    return {};
  }
};

ParallelList::ParallelList(std::string prefix, Ask ask, FirstAfter first_after, Page page)
    : prefix_(std::move(prefix)), ask_(std::move(ask)), first_after_(std::move(first_after)), page_(std::move(page)) {}

Status ParallelList::run() {
  State state(*this);
  std::vector<std::thread> threads;
  for (int i = 0; i < kAtOnce; ++i)
    threads.emplace_back([&] { state.work(); });
  const Status status = state.hand_on();
  {
    MutexLock lock(state.mutex);
    state.over = true;
  }
  state.changed.notify_all();
  for (auto& thread : threads)
    thread.join();
  return status;
}

}  // namespace larder
