// larder: the command line. Start reading at cached/cli/app.cc.
#include "cached/cli/app.h"
#include "larder/standard_streams.h"

int main(int argc, char** argv) {
  larder::prepare_standard_streams();
  return larder::cli::run_app(argc, argv);
}
