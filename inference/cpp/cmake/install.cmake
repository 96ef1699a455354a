# cmake --install: the library, its headers, the command, a CMake package (find_package(deeplab)) and a pkg-config file.
include(CMakePackageConfigHelpers)

install(TARGETS deeplab EXPORT deeplabTargets)
install(TARGETS deeplabSegment)
install(DIRECTORY include/deeplab DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/deeplab)
install(EXPORT deeplabTargets NAMESPACE deeplab:: FILE deeplabConfig.cmake DESTINATION ${package_folder})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/deeplabConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/deeplabConfigVersion.cmake DESTINATION ${package_folder})

configure_file(cmake/deeplab.pc.in deeplab.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/deeplab.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The link to a wheel's ONNX Runtime (FindONNXRuntime.cmake) is in the build folder; what is installed needs one, too.
string(FIND "${ONNXRuntime_LIBRARY}" "${CMAKE_CURRENT_BINARY_DIR}/" where)
if(ONNXRuntime_FOUND AND where EQUAL 0)
  get_filename_component(onnxruntime_file "${ONNXRuntime_LIBRARY}" REALPATH)
  install(CODE "file(CREATE_LINK \"${onnxruntime_file}\"
    \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/libonnxruntime.so.1\" SYMBOLIC)")
endif()
