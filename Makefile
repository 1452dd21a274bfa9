# Larder. `make help` lists the targets; README.md says what they are for.
# Every .cc below a folder is part of what the folder makes: there is no list of files to keep.
BUILD   ?= build
CCACHE  := $(if $(shell command -v ccache),ccache )# used where it is installed
ifeq ($(origin CXX),default)
CXX     := $(CCACHE)g++
endif
PYTHON  ?= $(firstword $(wildcard /usr/bin/python3) python3)# the system's, which has python3-pil
PREFIX  ?= /usr/local
DESTDIR ?=
MODE    ?= release
JOBS    ?= $(shell nproc)

# What a fresh Debian 12 needs. `make deps` installs what is missing of all of it.
BUILD_PACKAGES := g++ make pkg-config libcurl4-openssl-dev libssl-dev zlib1g-dev libxxhash-dev libhiredis-dev libsqlite3-dev \
                  libpugixml-dev libfmt-dev libspdlog-dev libmimalloc-dev libcli11-dev libtoml11-dev libelf-dev nlohmann-json3-dev \
                  libcpp-httplib-dev prometheus-cpp-dev binutils
TEST_PACKAGES  := libgtest-dev libgmock-dev binutils ca-certificates python3 python3-numpy python3-venv rsync diffutils findutils procps tar \
                  util-linux perl git zip unzip bzip2 xz-utils libjemalloc2 libtcmalloc-minimal4 libmimalloc2.0 redis-server openssl podman runc prometheus
FRAMEWORK_PACKAGES := python3-torch python3-torchvision libpython3.11-testsuite debootstrap valgrind \
                      $(if $(shell command -v go),,golang-go) $(if $(shell command -v rustc),,rustc) \
                      $(if $(shell command -v javac),,default-jdk-headless) $(if $(shell command -v node),,nodejs)
DEMO_PACKAGES  := ca-certificates python3 python3-venv python3-pil plasma-workspace-wallpapers
FUZZ_PACKAGES  := clang libclang-rt-14-dev
LINT_PACKAGES  := clang clang-tidy clang-format
CROSS_PACKAGES := g++-aarch64-linux-gnu libc6-arm64-cross qemu-user
PEER_PACKAGES  := fuse3 libfuse3-dev s3fs

WARN   := -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor $(if $(findstring clang,$(CXX)),-Wno-unknown-warning-option)
OPT    := $(if $(filter release,$(MODE)),-O2,-O1 -fno-omit-frame-pointer -fsanitize=$(MODE) -fno-sanitize-recover=all -DLARDER_SANITIZED) -g
BASE   := -std=c++20 $(WARN) $(OPT) -Iinclude -I.

# liblarder.so: libc alone. No exceptions, RTTI, guards or libstdc++; -O2 whatever the mode (it cannot be sanitized).
PRELOAD_FLAGS := -std=c++20 $(WARN) -O2 -g -Iinclude -I. -fPIC -fno-exceptions -fno-rtti -fno-threadsafe-statics \
                 -fvisibility=hidden -ftls-model=initial-exec -fno-stack-protector -U_FORTIFY_SOURCE -fno-delete-null-pointer-checks $(PRELOAD_EXTRA)
PRELOAD_LINK   = -shared -Wl,--version-script=$(BUILD)/exports.map -Wl,-z,defs,-z,now,-z,nodelete -Wl,-soname,liblarder.so \
                 -Wl,--no-as-needed -l:libdl.so.2
DAEMON_PKGS   := libcurl openssl zlib libxxhash hiredis sqlite3 pugixml fmt spdlog
METRICS_PKGS  := cpp-httplib prometheus-cpp-core# larderd alone
DAEMON_FLAGS   = $(BASE) $(shell pkg-config --cflags $(DAEMON_PKGS)) -DSPDLOG_FMT_EXTERNAL -pthread
CLI_LIBS      := -lelf
DAEMON_LIBS    = $(shell pkg-config --libs $(DAEMON_PKGS)) $(if $(filter release,$(MODE)),-lmimalloc) -pthread
METRICS_LIBS   = $(shell pkg-config --libs $(METRICS_PKGS))
$(BUILD)/obj/cached/metrics/%.o: DAEMON_FLAGS += $(shell pkg-config --cflags $(METRICS_PKGS))

PRELOAD_SRC := $(shell find preload -name '*.cc' ! -path 'preload/launch/*')
LAUNCH_SRC  := $(wildcard preload/launch/*.cc)
KEEPER_SRC  := $(wildcard cached/keeper/*.cc)
CACHED_SRC  := $(shell find cached -name '*.cc' ! -path 'cached/main/larder*.cc' ! -path 'cached/cli/*' ! -path 'cached/keeper/*')
CLI_SRC     := $(shell find cached/cli -name '*.cc')
TEST_SRC    := $(shell find tests -name '*_test.cc' ! -path 'tests/integration/*')
FUZZ_SRC    := $(wildcard tests/fuzz/*.cc)
BENCH_SRC   := $(shell find tests/bench -name '*.cc' 2>/dev/null)
obj = $(patsubst %.cc,$(BUILD)/obj/%.o,$(1))
# A make in a make, with all cores unless the caller chose.
submake = +$(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(JOBS))

all: $(BUILD)/liblarder.so $(BUILD)/larderd $(BUILD)/larder $(BUILD)/larder-exec $(BUILD)/larder-keeper

help:
	@echo 'make                 build/liblarder.so, build/larderd, build/larder, build/larder-exec, build/larder-keeper'
	@echo 'make deps            install what is missing (apt)'
	@echo 'make test            deps, build, all tests'
	@echo 'make test-frameworks PyTorch, Paddle, TensorFlow, DALI, CPython'"'"'s own tests, older Debians on a dataset'
	@echo 'make test-all        both'
	@echo 'make test-own        the Python tests with a cache in memory of larderd'"'"'s own'
	@echo 'make soak            large objects: a million operations, 10 GiB through 1 GiB; an hour'
	@echo 'make demo            deps, build, two epochs over an S3 bucket with real photographs'
	@echo 'make bench           the table of docs/benchmarks.md; make bench-peers adds other file systems'
	@echo 'make bench-sync      larder sync beside rclone and the AWS CLI'
	@echo 'make asan tsan       the unit tests, and those of large objects, under AddressSanitizer and UBSan; under ThreadSanitizer'
	@echo 'make fuzz            what comes from outside, under libFuzzer, ASan and UBSan; FUZZ_SECONDS=10 a target'
	@echo 'make lint            layers, lengths, locks, formatting, clang-tidy; make format formats in place'
	@echo 'make cross           liblarder.so for aarch64: compile, link, and run under qemu-user'
	@echo 'make install         DESTDIR= PREFIX=/usr/local; programs without symbols. make install-debug adds them in .debug folders'
	@echo 'make clean'

# ---- build -----------------------------------------------------------------------------------------------------------

$(BUILD)/obj/preload/%.o: preload/%.cc
	@mkdir -p $(@D)
	$(CXX) $(PRELOAD_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.o: %.cc
	@mkdir -p $(@D)
	$(CXX) $(DAEMON_FLAGS) -MMD -MP -c $< -o $@

# The export map comes from the list of intercepted functions. libdl is named for glibc before 2.34, which has dlsym there.
$(BUILD)/exports.map: preload/base/symbols.def
	@mkdir -p $(@D)
	sed -n 's/^SYM([^,]*, \([A-Za-z0-9_]*\),.*/\1;/p' $< | sort | sed '1i { global:' | sed '$$a local: *; };' > $@

$(BUILD)/liblarder.so: $(call obj,$(PRELOAD_SRC)) $(BUILD)/exports.map
	gcc -o $@ $(filter %.o,$^) $(PRELOAD_LINK)

# Static, on libc alone: it runs in any image.
$(BUILD)/larder-exec: $(LAUNCH_SRC) $(wildcard preload/launch/*.h include/larder/*.h)
	@mkdir -p $(@D)
	$(CXX) -std=c++20 $(WARN) -O2 -g -fno-exceptions -fno-rtti -Iinclude -I. -static -o $@ $(LAUNCH_SRC)

# Static, on libc alone: it is small, and stays for as long as the cache.
$(BUILD)/larder-keeper: $(KEEPER_SRC) $(wildcard cached/keeper/*.h include/larder/*.h)
	@mkdir -p $(@D)
	$(CXX) -std=c++20 $(WARN) -O2 -g -fno-exceptions -fno-rtti -Iinclude -I. -static -o $@ $(KEEPER_SRC)

$(BUILD)/libcached.a: $(call obj,$(CACHED_SRC))
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/larderd: $(call obj,cached/main/larderd.cc) $(BUILD)/libcached.a
	$(CXX) $(OPT) -o $@ $^ $(DAEMON_LIBS) $(METRICS_LIBS)

$(BUILD)/larder: $(call obj,cached/main/larder.cc $(CLI_SRC)) $(BUILD)/libcached.a
	$(CXX) $(OPT) -o $@ $^ $(DAEMON_LIBS) $(CLI_LIBS)

# Parts of liblarder.so that need nothing of the rest of it, and have tests of their own.
PAGER_SRC := $(addprefix preload/lazy/,pager.cc fault_server.cc chunk_run.cc paged_files.cc chunk_fetches.cc uffd.cc paged_mmap.cc pager_thread.cc) \
             preload/resolve/daemon_client.cc preload/resolve/path_scan.cc

$(BUILD)/unit_tests: $(call obj,$(TEST_SRC) $(CLI_SRC) $(PAGER_SRC)) $(BUILD)/libcached.a
	$(CXX) $(OPT) -o $@ $^ $(DAEMON_LIBS) $(CLI_LIBS) $(METRICS_LIBS) -lgtest -lgmock -lgtest_main

# Programs that tests run bare and preloaded.
TEST_PROGRAMS := $(addprefix $(BUILD)/,unit_tests probe probe_twins probe_files probe_sends probe_libraries interrupted filtered landlocked model lazy_model store_model model_store torn_read stolen_fd unseen unseen_static)
$(BUILD)/probe $(BUILD)/probe_twins $(BUILD)/probe_files $(BUILD)/probe_sends $(BUILD)/probe_libraries $(BUILD)/interrupted $(BUILD)/filtered $(BUILD)/landlocked $(BUILD)/model $(BUILD)/lazy_model $(BUILD)/store_model $(BUILD)/torn_read $(BUILD)/stolen_fd $(BUILD)/unseen: $(BUILD)/%: tests/preload/%.cc
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O2 -Wall -I. -MMD -MP -MF $@.d -o $@ $<
# The stores of store_model.
$(BUILD)/model_store: tests/preload/model_store.cc
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O2 -Wall -I. -MMD -MP -MF $@.d -o $@ $< -lcrypto -pthread
$(BUILD)/unseen_static: tests/preload/unseen.cc
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O2 -Wall -I. -static -o $@ $<

# The benchmark's programs run under the preload and bare: plain C++ on libc, one file each.
BENCH_PLAIN := $(filter-out tests/bench/cached/%,$(BENCH_SRC))
$(patsubst tests/bench/%.cc,$(BUILD)/bench/%,$(BENCH_PLAIN)): $(BUILD)/bench/%: tests/bench/%.cc
	@mkdir -p $(@D)
	$(CXX) -std=c++20 $(WARN) -O2 -g -Iinclude -I. -MMD -MP -MF $@.d $< -o $@ -pthread

# Those below tests/bench/cached measure the daemon's parts.
$(patsubst tests/bench/%.cc,$(BUILD)/bench/%,$(filter tests/bench/cached/%,$(BENCH_SRC))): \
    $(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(BUILD)/libcached.a
	@mkdir -p $(@D)
	$(CXX) $(OPT) -o $@ $(filter %.o %.a,$^) $(DAEMON_LIBS)

# Fuzz targets (tests/fuzz/fuzz.h). build/replay/NAME repeats seeds and mutations; build-fuzz/fuzz/NAME is libFuzzer's.
FUZZ_NAMES := $(patsubst tests/fuzz/%.cc,%,$(FUZZ_SRC))
$(BUILD)/replay/planted $(BUILD)/fuzz/planted: $(BUILD)/obj/tests/fuzz/replay/planted.o
$(patsubst %,$(BUILD)/replay/%,$(FUZZ_NAMES)): $(BUILD)/replay/%: $(BUILD)/obj/tests/fuzz/%.o
$(patsubst %,$(BUILD)/fuzz/%,$(FUZZ_NAMES)): $(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o

$(patsubst %,$(BUILD)/replay/%,planted $(FUZZ_NAMES)): $(BUILD)/obj/tests/fuzz/replay/main.o $(BUILD)/libcached.a
	@mkdir -p $(@D)
	$(CXX) $(OPT) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(DAEMON_LIBS)

$(patsubst %,$(BUILD)/fuzz/%,planted $(FUZZ_NAMES)): $(BUILD)/libcached.a
	@mkdir -p $(@D)
	$(CXX) $(OPT) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(filter %.a,$^) $(DAEMON_LIBS)

replay_programs: $(patsubst %,$(BUILD)/replay/%,planted $(FUZZ_NAMES))
fuzz_programs: replay_programs $(patsubst %,$(BUILD)/fuzz/%,planted $(FUZZ_NAMES))

bench_programs: $(patsubst tests/bench/%.cc,$(BUILD)/bench/%,$(BENCH_SRC))

# ---- tests -----------------------------------------------------------------------------------------------------------

deps:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES) $(DEMO_PACKAGES) $(CROSS_PACKAGES)

test:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)
	$(submake) all $(TEST_PROGRAMS) replay_programs
	@sh tests/tools/venv.sh build/venv >/dev/null
	@$(PYTHON) tests/run.py --build $(BUILD)

# The Python tests once more, with larderd's own memory as the cache of every larderd that names no folder.
test-own:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)
	$(submake) all $(TEST_PROGRAMS)
	@sh tests/tools/venv.sh build/venv >/dev/null
	@LARDER_TEST_HOME=own $(PYTHON) tests/run.py --build $(BUILD) --only python

# What `make test` does with large objects for seconds, for an hour or so: a million operations, an object of 10 GiB. 16 GiB of memory, 8 of disk.
soak:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)
	$(submake) all $(TEST_PROGRAMS)
	@LARDER_SOAK=1 $(PYTHON) tests/run.py --build $(BUILD) --only python --match lazy_long_test,keeper_test,store_model_test

# Gigabytes of packages, kept in ~/.cache/larder. What cannot be installed is skipped, and the last lines say so.
frameworks:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)
	-@sh tests/tools/deps.sh $(FRAMEWORK_PACKAGES)
	-@sh tests/frameworks/venv.sh $(BUILD)/frameworks

test-frameworks: frameworks
	$(submake) all
	@$(PYTHON) tests/run.py --build $(BUILD) --heavy

# `make test` and `make test-frameworks` with one count.
test-all: frameworks
	$(submake) all $(TEST_PROGRAMS) replay_programs
	@sh tests/tools/venv.sh build/venv >/dev/null
	@$(PYTHON) tests/run.py --build $(BUILD) --all

# liblarder.so has no runtime of a sanitizer: what UBSan finds in it ends the program. larderd and larder have both.
asan:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)
	$(submake) MODE=address,undefined BUILD=build-asan PRELOAD_EXTRA='-fsanitize=undefined -fsanitize-undefined-trap-on-error' asan_programs
	@$(PYTHON) tests/run.py --build build-asan --only unit
	@$(PYTHON) tests/run.py --build build-asan --only python --match lazy_,differential_test,model_test,map_test
asan_programs: all $(TEST_PROGRAMS)

tsan:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)
	$(submake) MODE=thread BUILD=build-tsan build-tsan/unit_tests
	@$(PYTHON) tests/run.py --build build-tsan --only unit

FUZZ_SECONDS ?= 10
fuzz:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(FUZZ_PACKAGES)
	$(submake) MODE=address,undefined,fuzzer-no-link BUILD=build-fuzz CXX='$(CCACHE)clang++' fuzz_programs
	@$(PYTHON) tests/fuzz/run.py --build build-fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_NAMES)

# Stamps in $(BUILD)/lint: a source that passed is analysed again when it, its headers or the flags change. Flags that only g++ knows are
# left out.
LINT_WARN := -Wall -Wextra -Wno-unknown-warning-option
lint_flags = $(LINT_WARN) $(filter-out $(WARN),$(1))
lint:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES) $(LINT_PACKAGES)
	$(submake) lint_sources
lint_sources:
	@status=0; $(PYTHON) tests/tools/lint.py || status=1; \
	LINT_FLAGS='$(call lint_flags,$(DAEMON_FLAGS))' LINT_FLAGS_PRELOAD='$(call lint_flags,$(PRELOAD_FLAGS))' \
	$(PYTHON) tests/tools/clang_lint.py --stamps $(BUILD)/lint --jobs $(JOBS) || status=1; exit $$status

format:
	@sh tests/tools/deps.sh $(LINT_PACKAGES)
	@$(PYTHON) tests/tools/clang_lint.py --fix-format

# xxhash.h is the one header that liblarder.so needs besides libc's, and it is the same for every architecture.
CROSS := aarch64-linux-gnu-
cross:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(CROSS_PACKAGES) binutils
	$(submake) all
	@mkdir -p build-cross/include && cp /usr/include/xxhash.h build-cross/include/
	$(submake) BUILD=build-cross CXX='$(CCACHE)$(CROSS)g++ -isystem build-cross/include' $(addprefix build-cross/,liblarder-aarch64.so probe probe_twins)
	@$(PYTHON) tests/integration/symbols_test.py --library build-cross/liblarder-aarch64.so --objdump $(CROSS)objdump
	@$(PYTHON) tests/run.py --build $(BUILD) --only python tests/preload/aarch64_test.py

build-cross/liblarder-aarch64.so: $(call obj,$(PRELOAD_SRC)) $(BUILD)/exports.map
	$(CROSS)gcc -o $@ $(filter %.o,$^) $(PRELOAD_LINK)

# What tests/run.py puts on the path for the tests.
WITH_TOOLS := PYTHONPATH=tests:tests/tools

# ---- demo, bench -----------------------------------------------------------------------------------------------------

demo:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(DEMO_PACKAGES)
	$(submake) all
	@sh tests/tools/venv.sh build/venv >/dev/null
	@$(WITH_TOOLS) $(PYTHON) examples/demo/demo.py --build $(BUILD)

bench:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)
	$(submake) all bench_programs
	@sh tests/tools/venv.sh build/venv >/dev/null
	@$(WITH_TOOLS) $(PYTHON) tests/bench/bench.py --build $(BUILD) $(BENCH_ARGS)

bench-peers:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES) $(PEER_PACKAGES)
	$(submake) all bench_programs
	@sh tests/tools/venv.sh build/venv >/dev/null
	@$(WITH_TOOLS) $(PYTHON) tests/bench/peers.py install --build $(BUILD)
	@$(WITH_TOOLS) $(PYTHON) tests/bench/bench.py --build $(BUILD) --peers $(BENCH_ARGS)

bench-sync:
	@sh tests/tools/deps.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)
	$(submake) all
	@sh tests/tools/venv.sh build/venv >/dev/null
	@$(WITH_TOOLS) $(PYTHON) tests/bench/sync_bench.py --build $(BUILD) $(BENCH_ARGS)

# ---- install ---------------------------------------------------------------------------------------------------------

# Programs are installed without symbols (a tenth of the size). install-debug puts the symbols into .debug beside each, where gdb, perf and
# valgrind look for the file that .gnu_debuglink names.
$(BUILD)/stripped/%.debug: $(BUILD)/%
	@mkdir -p $(@D)
	objcopy --only-keep-debug $< $@
$(BUILD)/stripped/%: $(BUILD)/% $(BUILD)/stripped/%.debug
	objcopy --strip-unneeded --add-gnu-debuglink=$@.debug $< $@

INSTALLED_BIN := larder larderd
INSTALLED_LIB := liblarder.so larder-exec larder-keeper
COMPLETIONS := bash-completion/completions/larder zsh/site-functions/_larder fish/vendor_completions.d/larder.fish
stripped = $(addprefix $(BUILD)/stripped/,$(1))

.SECONDARY: $(call stripped,$(addsuffix .debug,$(INSTALLED_BIN) $(INSTALLED_LIB)))
install: $(call stripped,$(INSTALLED_BIN) $(INSTALLED_LIB))
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin lib/systemd/system $(addprefix share/,doc/larder man/man1 man/man8 $(dir $(COMPLETIONS))))
	install -m 755 $(call stripped,$(INSTALLED_BIN)) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(call stripped,liblarder.so) $(DESTDIR)$(PREFIX)/lib
	install -m 755 $(call stripped,larder-exec larder-keeper) $(DESTDIR)$(PREFIX)/lib
	$(BUILD)/larder manual | gzip -9n >$(DESTDIR)$(PREFIX)/share/man/man1/larder.1.gz
	$(BUILD)/larderd --manual | gzip -9n >$(DESTDIR)$(PREFIX)/share/man/man8/larderd.8.gz
	$(BUILD)/larder completion bash >$(DESTDIR)$(PREFIX)/share/$(word 1,$(COMPLETIONS))
	$(BUILD)/larder completion zsh >$(DESTDIR)$(PREFIX)/share/$(word 2,$(COMPLETIONS))
	$(BUILD)/larder completion fish >$(DESTDIR)$(PREFIX)/share/$(word 3,$(COMPLETIONS))
	sed 's|@PREFIX@|$(PREFIX)|g' examples/larderd.service.in >$(DESTDIR)$(PREFIX)/lib/systemd/system/larderd.service
	for unit in dev-shm-larder.mount dev-shm-larder-chunks.mount; do \
	  sed 's|@PREFIX@|$(PREFIX)|g' examples/$$unit.in >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit 1; done
	chmod 644 $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/system/,larderd.service dev-shm-larder.mount dev-shm-larder-chunks.mount)
	install -m 644 examples/larder.toml examples/valgrind.supp README.md CHANGELOG.md docs/*.md $(DESTDIR)$(PREFIX)/share/doc/larder

install-debug: install
	install -d $(DESTDIR)$(PREFIX)/bin/.debug $(DESTDIR)$(PREFIX)/lib/.debug
	install -m 644 $(call stripped,$(INSTALLED_BIN:%=%.debug)) $(DESTDIR)$(PREFIX)/bin/.debug
	install -m 644 $(call stripped,$(INSTALLED_LIB:%=%.debug)) $(DESTDIR)$(PREFIX)/lib/.debug

clean:
	rm -rf build build-asan build-tsan build-fuzz build-cross $(BUILD)

.PHONY: all help bench_programs replay_programs fuzz_programs fuzz lint lint_sources format deps test soak frameworks test-frameworks test-all test-own asan asan_programs tsan cross demo bench bench-peers bench-sync install install-debug clean
-include $(shell find $(BUILD)/obj $(BUILD)/bench -name '*.d' 2>/dev/null) $(wildcard $(BUILD)/*.d)
