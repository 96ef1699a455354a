# Specs and arithmetic: what Python's mask is equal to, without engines or picture files.
set(DEEPLAB_CORE_SOURCES
  ${CMAKE_CURRENT_SOURCE_DIR}/src/json.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/output.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/pixels.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/resize.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/sampling.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/spec.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/window.cpp)
set(DEEPLAB_CORE_TESTS
  ${CMAKE_CURRENT_SOURCE_DIR}/tests/test_json.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/tests/test_pixels.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/tests/test_resize.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/tests/test_sampling.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/tests/test_spec.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/tests/test_window.cpp)
