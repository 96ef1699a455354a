# ONNXRuntime::ONNXRuntime from ONNXRUNTIME_ROOT: a normal installation (include/, lib/) with its headers, or the folder
# of the library alone, by default that of Python's package onnxruntime, with the declarations in src/engines/abi.
include(PythonPackages)
set(ONNXRUNTIME_ROOT "" CACHE PATH "The folder of ONNX Runtime")

find_path(ONNXRuntime_INCLUDE_DIR onnxruntime_c_api.h NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH
          PATHS "${ONNXRUNTIME_ROOT}" PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session)
find_library(ONNXRuntime_LIBRARY onnxruntime NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH PATHS "${ONNXRUNTIME_ROOT}"
             PATH_SUFFIXES lib lib64)
if(NOT ONNXRuntime_LIBRARY)
  # A wheel has the library under its full version only, but programs ask the loader for libonnxruntime.so.1.
  file(GLOB _versioned "${ONNXRUNTIME_ROOT}/libonnxruntime.so.1.*"
       "${DEEPLAB_SITE_PACKAGES}/onnxruntime/capi/libonnxruntime.so.1.*")
  if(_versioned)
    list(GET _versioned 0 _library)
    file(MAKE_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/onnxruntime")
    set(ONNXRuntime_LIBRARY "${CMAKE_CURRENT_BINARY_DIR}/onnxruntime/libonnxruntime.so.1")
    file(CREATE_LINK "${_library}" "${ONNXRuntime_LIBRARY}" SYMBOLIC)
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(ONNXRuntime REQUIRED_VARS ONNXRuntime_LIBRARY)
if(ONNXRuntime_FOUND AND NOT TARGET ONNXRuntime::ONNXRuntime)
  if(NOT ONNXRuntime_INCLUDE_DIR)
    set(_include "${CMAKE_CURRENT_LIST_DIR}/../src/engines/abi")
  else()
    set(_include "${ONNXRuntime_INCLUDE_DIR}")
  endif()
  add_library(ONNXRuntime::ONNXRuntime SHARED IMPORTED)
  set_target_properties(ONNXRuntime::ONNXRuntime PROPERTIES IMPORTED_LOCATION "${ONNXRuntime_LIBRARY}"
                        INTERFACE_INCLUDE_DIRECTORIES "${_include}")
endif()
