#!/usr/bin/env python3
"""Pages and comments name files that exist; pages wrap at 120 columns and hold every promise that a test quotes.

Without it a reader is sent to files that were renamed, and a promise changes while its test still proves the old one.
A test quotes a promise as "S16: words of docs/semantics.md"; "S16" alone only refers to it."""
import collections
import fnmatch
import functools
import glob
import os
import re
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOPS = ("cached", "preload", "include", "tests", "docs", "examples")
MOST_COLUMNS = 120
SOURCE_NAME = re.compile(r"(?!\.\./)[\w*./-]+\.(?:cc|h|py|md|sh|def|in)$")
SOURCE_WORD = re.compile(r"`(k?(?:[A-Z][a-z0-9]+){2,})`")
TREE_PATH = re.compile(r"(?<![\w/.-])(?:%s)/[\w*./-]*" % "|".join(TOPS))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMENT = re.compile(r"(?://|^\s*#|\"\"\")(.*)")
COMMENTED_NAME = re.compile(r"(?<![\w./<>*$-])\w[\w/.-]*\.(?:cc|h|py|md|sh)\b(?![\w/*])")
OTHERS_FILES = {"xxhash.h", "linux/openat2.h", "tests/fuzz/NAME.cc"}
PROMISE = re.compile(r"\*\*(S\d+[a-z]?)\*\*")
NUMBER = re.compile(r"(?<![\w./-])S\d+[a-z]?\b(?![/.-]\w)")
MUTEX = re.compile(r"(?m)^\s*(?:mutable |static )*Mutex (\w+)\b(?!\()")
QUOTE = re.compile(r"(?<![\w./-])(S\d+[a-z]?): (.*?)(?:\.(?=\s|\"|$)|\"\"\"|\Z)", re.S)


def pages():
    names = ["README.md", "CONTRIBUTING.md"] + sorted(glob.glob("docs/*.md", root_dir=ROOT))
    return [name for name in names if os.path.exists(os.path.join(ROOT, name))]


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


@functools.lru_cache(maxsize=None)
def tree():
    """Every file and folder of the sources, relative to the root."""
    found = set(os.listdir(ROOT))
    for top in TOPS:
        for folder, folders, names in os.walk(os.path.join(ROOT, top)):
            found.update(os.path.relpath(os.path.join(folder, name), ROOT) for name in folders + names)
    return found | set(TOPS)


def exists(name):
    """Whether a path of the tree is meant: from its root, or the end of one, such as `s3.cc` or `s3/s3.cc`."""
    name = name.rstrip("/")
    if "*" in name:
        return bool(fnmatch.filter(tree(), name))
    return name in tree() or any(path.endswith("/" + name) for path in tree())


def prose(text):
    """(line number, line) outside of code blocks, fenced or indented."""
    fenced = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield number, line


def missing_files(text):
    """Paths in backticks and plain ones below a top folder that are not in the tree."""
    found = []
    for number, line in prose(text):
        quoted = [word for span in re.findall(r"`([^`]+)`", line) for word in span.split()]
        named = [word for word in quoted if SOURCE_NAME.match(word)]
        named += [word.rstrip(".") for word in TREE_PATH.findall(line)]
        found += [f"line {number}: {name}" for name in sorted(set(named)) if not exists(name)]
    return found


def files_missing_in_comments(text):
    """Files that comments and one-line docstrings name and the tree does not have."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        comment = COMMENT.search(line)
        named = COMMENTED_NAME.findall(comment.group(1)) if comment and "#include" not in line else []
        found += [f"line {number}: {name}" for name in named if name not in OTHERS_FILES and not exists(name)]
    return found


@functools.lru_cache(maxsize=None)
def source_words():
    sources = [path for path in tree() if path.startswith(TOPS) and path.endswith((".cc", ".h"))]
    return {word for path in sources for word in re.findall(r"\w+", read(path))}


def missing_words(text):
    """Classes and constants in backticks that no source has: `ChunkStore`, `kFetch`."""
    return [f"line {number}: {word}" for number, line in prose(text) for word in SOURCE_WORD.findall(line)
            if word not in source_words()]


def anchors(text):
    headings = [line.lstrip("#").strip() for _, line in prose(text) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(text, folder):
    """Links to files or headings that are not there. `folder` is the page's own, relative to the root."""
    found = []
    for number, line in prose(text):
        for target in LINK.findall(line):
            if re.match(r"[a-z]+://", target):
                continue
            name, _, heading = target.partition("#")
            path = os.path.normpath(os.path.join(folder, name)) if name else None
            if path and path not in tree():
                found.append(f"line {number}: {target}")
            elif heading and heading not in anchors(read(path) if path else text):
                found.append(f"line {number}: {target}")
    return found


def long_lines(text):
    return [f"line {number}: {len(line)} columns" for number, line in prose(text)
            if len(line) > MOST_COLUMNS and not line.startswith("|")]


def unlisted_locks(page, sources):
    """Mutexes of sources (path, text) that the page's entries do not name as often as their file has them."""
    entries = page.split("\n- ")
    found = []
    for path, text in sources:
        for name, count in collections.Counter(MUTEX.findall(text)).items():
            if sum(f"::{name}`" in entry and path in entry for entry in entries) != count:
                found.append(f"{path}: {name}")
    return found


def plain(text):
    """Words only: quotes in comments differ from the page in line breaks, comment marks and emphasis."""
    return " ".join(re.sub(r"(?m)^\s*(//|#)", " ", re.sub(r"[*`]", "", text)).lower().split())


def promises():
    """S-number -> its text."""
    parts = PROMISE.split(read("docs/semantics.md"))
    return dict(zip(parts[1::2], map(plain, parts[2::2])))


def test_files():
    for path in sorted(tree()):
        if path.startswith("tests/") and path.endswith((".py", ".cc", ".h")) and not path.endswith("docs_test.py"):
            yield path


def wrong_quotes(text, known):
    """Numbers and quotes of a test that docs/semantics.md does not have."""
    found = [f"{number} is not there" for number in sorted(set(NUMBER.findall(text))) if number not in known]
    for number, words in QUOTE.findall(text):
        if plain(words) not in known.get(number, ""):
            found.append(f"{number} does not say: {plain(words)}")
    return found


class PagesTest(unittest.TestCase):
    def check(self, find):
        found = [f"{page}: {what}" for page in pages() for what in find(page)]
        self.assertEqual([], found)

    def test_files_that_pages_name_exist(self):
        self.check(lambda page: missing_files(read(page)))

    def test_files_that_comments_name_exist(self):
        sources = [path for path in sorted(tree()) if path.startswith(TOPS) and path.endswith((".cc", ".h", ".def", ".py", ".in"))]
        own = ("docs_test.py", "lint_test.py")  # they name files that are not there on purpose
        found = [f"{path}: {what}" for path in sources if not path.endswith(own) for what in files_missing_in_comments(read(path))]
        self.assertEqual([], found)

    def test_classes_that_pages_name_exist(self):
        self.check(lambda page: missing_words(read(page)))

    def test_links_lead_somewhere(self):
        self.check(lambda page: broken_links(read(page), os.path.dirname(page)))

    def test_lines_wrap(self):
        self.check(lambda page: long_lines(read(page)))

    def test_every_lock_of_the_daemon_is_listed(self):
        sources = [(path, read(path)) for path in sorted(tree())
                   if path.startswith("cached/") and path.endswith((".cc", ".h")) and path != "cached/base/mutex.h"]
        self.assertEqual([], unlisted_locks(read("docs/locks.md"), sources))

    def test_quoted_promises_are_in_the_page(self):
        known = promises()
        found = [f"{path}: {what}" for path in test_files() for what in wrong_quotes(read(path), known)]
        self.assertEqual([], found)

    def test_every_promise_has_a_test_that_names_it(self):
        named = {number for path in test_files() for number in NUMBER.findall(read(path))}
        self.assertEqual(set(), set(promises()) - named)


class CheckersTest(unittest.TestCase):
    """Each check finds a fault of its kind; otherwise its silence about the pages means nothing."""

    def test_a_file_that_is_gone_is_found(self):
        self.assertEqual(["line 1: gone.cc"], missing_files("See `gone.cc`, `docs_test.py` and tests/tools/docs_test.py."))
        self.assertEqual(["line 1: cached/gone/x.cc"], missing_files("See cached/gone/x.cc."))
        self.assertEqual(["line 1: docs/*.txt"], missing_files("Beside docs/*.md lies docs/*.txt"))
        self.assertEqual([], missing_files("```\nls gone.cc\n```\n    vi docs/gone.md\n"))

    def test_a_file_that_is_gone_from_a_comment_is_found(self):
        text = "// See gone.cc, docs_test.py.\n#include \"gone.h\"\nint a;  // cached/gone.h has more\n"
        self.assertEqual(["line 1: gone.cc", "line 3: cached/gone.h"], files_missing_in_comments(text))

    def test_a_class_that_is_gone_is_found(self):
        self.assertEqual(["line 1: GoneClass"], missing_words("`GoneClass`, `ChunkStore`, `kFetch`, `stat`, `EIO`"))

    def test_a_broken_link_is_found(self):
        self.assertEqual(["line 1: gone.md", "line 1: #no-such"],
                         broken_links("[x](gone.md) [y](sync.md) [z](#a-b) [w](#no-such)\n# A b", "docs"))

    def test_a_long_line_is_found(self):
        self.assertEqual(["line 1: 121 columns"], long_lines("x" * 121 + "\n| " + "x" * 200 + "\n" + "y" * 120))

    def test_a_lock_that_is_not_listed_is_found(self):
        page = "Locks\n- `A::mutex_` (cached/a.h): this\n- `B::other_` (cached/b.h): that"
        text = "struct A {\n  mutable Mutex mutex_;  // a leaf\n  Mutex other_ ACQUIRED_AFTER(mutex_);\n  Mutex& ref;\n"
        self.assertEqual(["cached/a.h: other_"], unlisted_locks(page, [("cached/a.h", text)]))
        self.assertEqual(["cached/b.h: other_"], unlisted_locks(page, [("cached/b.h", text[text.index("  Mutex other_"):] * 2)]))

    def test_a_wrong_quote_is_found(self):
        known = {"S1": plain("A program gets the *object's* bytes or\n  an errno.")}
        self.assertEqual([], wrong_quotes("// S1: a program gets the\n  // object's bytes or an errno. More.", known))
        self.assertEqual(["S99 is not there"], wrong_quotes('"""S99."""', known))
        self.assertEqual(["S1 does not say: a program gets zeros"], wrong_quotes('"""S1: A program gets zeros."""', known))


if __name__ == "__main__":
    unittest.main(verbosity=2)
