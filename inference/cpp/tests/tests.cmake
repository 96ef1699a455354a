enable_testing()
find_package(doctest QUIET)
if(NOT doctest_FOUND)
  message(FATAL_ERROR "The tests need doctest (Debian: apt install doctest-dev). To build without them: "
                      "cmake --preset host -DDEEPLAB_TESTS=OFF, or make device TESTS=OFF.")
endif()

add_executable(deeplab_tests tests/main.cpp tests/test_classes.cpp tests/test_confusion.cpp tests/test_options.cpp
  tests/test_c_interface.cpp tool/confusion.cpp tool/options.cpp
  ${DEEPLAB_CORE_TESTS} ${DEEPLAB_IMAGE_TESTS} ${DEEPLAB_ENGINE_TESTS})
target_include_directories(deeplab_tests PRIVATE tool)
target_compile_definitions(deeplab_tests PRIVATE ${DEEPLAB_ENGINE_DEFINITIONS})
target_link_libraries(deeplab_tests PRIVATE deeplab_objects doctest::doctest)
add_test(NAME deeplab_tests COMMAND deeplab_tests)
if(DEEPLAB_SANITIZE)  # MNN itself leaks when it refuses a file
  set_tests_properties(deeplab_tests PROPERTIES ENVIRONMENT
                       "LSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/tests/leaks.txt")
endif()

# What the Python tests ask for bits.
foreach(name probe image_probe engine_probe)
  add_executable(deeplab_${name} tests/${name}.cpp)
  target_link_libraries(deeplab_${name} PRIVATE deeplab_objects)
endforeach()

# Fuzz targets: with libFuzzer, or some thousand inputs of our own driver as a test.
foreach(name fuzz_image fuzz_spec)
  add_executable(deeplab_${name} tests/${name}.cpp)
  target_link_libraries(deeplab_${name} PRIVATE deeplab_objects)
  if(DEEPLAB_FUZZ)
    target_link_options(deeplab_${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(deeplab_${name} PRIVATE tests/fuzz_driver.cpp)
  endif()
endforeach()
if(NOT DEEPLAB_FUZZ)
  file(GLOB pictures ${CMAKE_CURRENT_SOURCE_DIR}/tests/seeds/*.png ${CMAKE_CURRENT_SOURCE_DIR}/tests/seeds/*.jpg)
  file(GLOB texts ${CMAKE_CURRENT_SOURCE_DIR}/tests/seeds/*.json ${CMAKE_CURRENT_SOURCE_DIR}/tests/seeds/*.txt)
  add_test(NAME fuzz_image COMMAND deeplab_fuzz_image 20000 ${pictures})
  add_test(NAME fuzz_spec COMMAND deeplab_fuzz_spec 20000 ${texts})
endif()

add_executable(deeplab_labels_benchmark benchmarks/labels.cpp)
target_link_libraries(deeplab_labels_benchmark PRIVATE deeplab_objects)
