# LiteRT::LiteRT from the folder LITERT_ROOT, by default that of Python's package ai-edge-litert. No headers are needed.
include(PythonPackages)
set(LITERT_ROOT "" CACHE PATH "The folder of libLiteRt.so")

find_library(LiteRT_LIBRARY LiteRt NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH
             PATHS "${LITERT_ROOT}" "${DEEPLAB_SITE_PACKAGES}/ai_edge_litert" PATH_SUFFIXES lib)
# The library does not say its version, but the wheel does.
get_filename_component(_folder "${LiteRT_LIBRARY}" DIRECTORY)
file(GLOB _described "${_folder}/../ai_edge_litert-*.dist-info")
if(_described MATCHES "ai_edge_litert-([0-9]+\\.[0-9]+)")
  set(LiteRT_VERSION "${CMAKE_MATCH_1}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LiteRT REQUIRED_VARS LiteRT_LIBRARY VERSION_VAR LiteRT_VERSION)
if(LiteRT_FOUND AND NOT TARGET LiteRT::LiteRT)
  add_library(LiteRT::LiteRT SHARED IMPORTED)
  set_target_properties(LiteRT::LiteRT PROPERTIES IMPORTED_LOCATION "${LiteRT_LIBRARY}")
endif()
