# Pictures: reading, writing, drawing.
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)
find_package(ZLIB REQUIRED)  # libpng stands on it; here for the sums of chunks
set(DEEPLAB_IMAGE_LIBRARIES JPEG::JPEG PNG::PNG ZLIB::ZLIB)

set(DEEPLAB_IMAGE_SOURCES
  ${CMAKE_CURRENT_SOURCE_DIR}/src/image/draw.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/image/exif.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/image/jpeg.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/image/png.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/image/read.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/src/image/write.cpp)

set(DEEPLAB_IMAGE_TESTS
  ${CMAKE_CURRENT_SOURCE_DIR}/tests/test_draw.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/tests/test_image_read.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/tests/test_image_write.cpp)
