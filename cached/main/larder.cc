// larder: the command line. Start reading at cached/cli/app.cc.
#include "cached/cli/app.h"

int main(int argc, char** argv) {
  return larder::cli::run_app(argc, argv);
}
