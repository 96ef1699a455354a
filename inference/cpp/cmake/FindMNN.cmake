# MNN::MNN from MNN_ROOT (include/MNN/Interpreter.hpp and libMNN.so, in it, in lib/ or in build/). By default it is the
# library in Python's package MNN, with the declarations in src/engines/abi; MNN_ROOT with headers alone goes with it.
# MNN_OLD_STRINGS: the library was built with the std::string that libstdc++ had before C++11.
include(PythonPackages)
set(MNN_ROOT "" CACHE PATH "The folder of MNN")

find_path(MNN_INCLUDE_DIR MNN/Interpreter.hpp NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH PATHS "${MNN_ROOT}"
          PATH_SUFFIXES include)
find_library(MNN_LIBRARY MNN NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH PATHS "${MNN_ROOT}" PATH_SUFFIXES lib lib64 build)
set(_needs "")
if(NOT MNN_LIBRARY)
  file(GLOB _modules "${DEEPLAB_SITE_PACKAGES}/_mnncengine*.so")
  if(_modules AND EXISTS "${DEEPLAB_LIBPYTHON}")
    list(GET _modules 0 MNN_LIBRARY)
    set(_needs "${DEEPLAB_LIBPYTHON}")
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(MNN REQUIRED_VARS MNN_LIBRARY)
if(MNN_FOUND AND NOT TARGET MNN::MNN)
  set(MNN_OLD_STRINGS FALSE)
  if(MNN_LIBRARY MATCHES "\\.so")
    file(STRINGS "${MNN_LIBRARY}" _symbols REGEX "getSessionInputAllB5cxx11" LIMIT_COUNT 1)
    if(NOT _symbols)
      set(MNN_OLD_STRINGS TRUE)
    endif()
  endif()
  if(NOT MNN_INCLUDE_DIR)
    set(_include "${CMAKE_CURRENT_LIST_DIR}/../src/engines/abi")
  else()
    set(_include "${MNN_INCLUDE_DIR}")
  endif()
  add_library(MNN::MNN UNKNOWN IMPORTED)
  set_target_properties(MNN::MNN PROPERTIES IMPORTED_LOCATION "${MNN_LIBRARY}"
                        INTERFACE_INCLUDE_DIRECTORIES "${_include}" INTERFACE_LINK_LIBRARIES "${_needs}")
endif()
