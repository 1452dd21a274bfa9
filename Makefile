# Larder. Targets: deps all test demo bench asan tsan install clean (see README.md).
# Every .cc below a folder is part of what the folder makes: there is no list of files to keep.
BUILD   ?= build
CXX     ?= g++
PREFIX  ?= /usr/local
DESTDIR ?=
MODE    ?= release

WARN   := -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor
OPT    := $(if $(filter release,$(MODE)),-O2,-O1 -fno-omit-frame-pointer -fsanitize=$(MODE)) -g
BASE   := -std=c++20 $(WARN) $(OPT) -Iinclude -I.

# liblarder.so: libc alone. No exceptions, RTTI, guards or libstdc++; -O2 whatever the mode (it cannot be sanitized).
PRELOAD_FLAGS := -std=c++20 $(WARN) -O2 -g -Iinclude -I. -fPIC -fno-exceptions -fno-rtti -fno-threadsafe-statics \
                 -fvisibility=hidden -ftls-model=initial-exec -fno-stack-protector -U_FORTIFY_SOURCE -fno-builtin-fstat
DAEMON_PKGS   := libcurl openssl libxxhash hiredis sqlite3 pugixml fmt spdlog
DAEMON_FLAGS   = $(BASE) $(shell pkg-config --cflags $(DAEMON_PKGS)) -DSPDLOG_FMT_EXTERNAL -pthread
DAEMON_LIBS    = $(shell pkg-config --libs $(DAEMON_PKGS)) $(if $(filter release,$(MODE)),-lmimalloc) -pthread

PRELOAD_SRC := $(shell find preload -name '*.cc')
CACHED_SRC  := $(shell find cached -name '*.cc' ! -path 'cached/main/*' ! -path 'cached/cli/*')
CLI_SRC     := $(shell find cached/cli -name '*.cc' 2>/dev/null)
TEST_SRC    := $(shell find tests -name '*_test.cc' ! -path 'tests/integration/*')
obj = $(patsubst %.cc,$(BUILD)/obj/%.o,$(1))

all: $(BUILD)/liblarder.so $(BUILD)/larderd $(BUILD)/larder

$(BUILD)/obj/preload/%.o: preload/%.cc
	@mkdir -p $(@D)
	$(CXX) $(PRELOAD_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.o: %.cc
	@mkdir -p $(@D)
	$(CXX) $(DAEMON_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/liblarder.so: $(call obj,$(PRELOAD_SRC)) preload/exports.map
	gcc -shared -o $@ $(filter %.o,$^) -Wl,--version-script=preload/exports.map -Wl,-z,defs,-z,now,-z,nodelete -Wl,-soname,liblarder.so

$(BUILD)/libcached.a: $(call obj,$(CACHED_SRC))
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/larderd: $(call obj,cached/main/larderd.cc) $(BUILD)/libcached.a
	$(CXX) $(OPT) -o $@ $^ $(DAEMON_LIBS)

$(BUILD)/larder: $(call obj,cached/main/larder.cc $(CLI_SRC)) $(BUILD)/libcached.a
	$(CXX) $(OPT) -o $@ $^ $(DAEMON_LIBS)

$(BUILD)/unit_tests: $(call obj,$(TEST_SRC) $(CLI_SRC)) $(BUILD)/libcached.a
	$(CXX) $(OPT) -o $@ $^ $(DAEMON_LIBS) -lgtest -lgmock -lgtest_main

clean:
	rm -rf $(BUILD)

.PHONY: all clean
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
