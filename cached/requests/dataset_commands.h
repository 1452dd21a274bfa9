// Commands on datasets and mounts: `format`, `nodes`, `mount`, `umount`, `refresh` (docs/protocol.md). They wait for
// stores and the metadata: on worker threads. Thread-safe.
#pragma once
#include "cached/namespace/datasets.h"
#include "cached/requests/admin_call.h"

namespace larder {

class DatasetCommands {
 public:
  struct Parts {
    const Config& config;
    ObjectCache& cache;
    Datasets& datasets;
    Meta& meta;
  };
  // The parts outlive it.
  explicit DatasetCommands(Parts parts) : p_(parts) {}

  AdminAnswer format(const AdminCall& call);
  AdminAnswer nodes(const AdminCall& call);
  AdminAnswer mount(const AdminCall& call);
  AdminAnswer umount(const AdminCall& call);
  AdminAnswer refresh(const AdminCall& call);

 private:
  AdminAnswer restore(const std::string& name, const std::string& source);
  Result<MountRequest> mount_request(const AdminCall& call) const;

  const Parts p_;
};

}  // namespace larder
