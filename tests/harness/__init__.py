"""Shared by the Python tests: a private larderd, the command line, datasets, stores, programs bare and preloaded.

A test removes every folder that it makes, and ends every process that it starts, by pid. Imports start at tests/ and
tests/tools/, which tests/run.py puts on the path; by hand: PYTHONPATH=tests:tests/tools python3 tests/integration/run_test.py
"""
from .base import (BUILD, KEEPER, LARDER, LARDERD, LIBRARY, PYTHON, ROOT, TESTS, TOOLS, VENV, VENV_PYTHON, MiB, alive, clean_environment, free_port,
                   run_program, scratch, wait_for)
from .daemon import Daemon, LarderTest
from .keeper import KeptDaemon
from .stores import OddServer, Proxy, s3_environment, s3_server
from .trees import content, digest, make_probe_tree, make_tree, settle_tree, tree_digests

__all__ = ["BUILD", "KEEPER", "KeptDaemon", "LARDER", "LARDERD", "LIBRARY", "PYTHON", "ROOT", "TESTS", "TOOLS", "VENV", "VENV_PYTHON", "MiB", "alive",
           "clean_environment", "free_port", "run_program", "scratch", "wait_for", "Daemon", "LarderTest", "OddServer", "Proxy", "s3_environment", "s3_server",
           "content", "digest", "make_probe_tree", "make_tree", "settle_tree", "tree_digests"]
