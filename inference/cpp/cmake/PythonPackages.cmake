# DEEPLAB_SITE_PACKAGES: where a Python environment keeps its packages, whose wheels bring the engines' libraries.
# DEEPLAB_LIBPYTHON: the shared library of that Python, which MNN's wheel needs.
# The Python is DEEPLAB_PYTHON, else Python3_EXECUTABLE, else python3 of the path; a cross build asks none.
include_guard()
set(DEEPLAB_PYTHON "" CACHE FILEPATH "The Python whose packages bring the engines")

set(DEEPLAB_SITE_PACKAGES "")
set(DEEPLAB_LIBPYTHON "")
set(_python "${DEEPLAB_PYTHON}")
if(NOT _python)
  set(_python "${Python3_EXECUTABLE}")
endif()
if(NOT _python AND NOT CMAKE_CROSSCOMPILING)
  find_program(_python_of_path python3 NO_CACHE)
  if(_python_of_path)
    set(_python "${_python_of_path}")
  endif()
endif()
if(_python)
  execute_process(
    COMMAND "${_python}" -c
            "import os, sysconfig as s
print(s.get_path('platlib'))
print(os.path.join(s.get_config_var('LIBDIR') or '', s.get_config_var('INSTSONAME') or ''))"
    OUTPUT_VARIABLE _answer OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE _status)
  if(NOT _status EQUAL 0)
    message(FATAL_ERROR "${_python} cannot be asked for its packages.")
  endif()
  string(REPLACE "\n" ";" _answer "${_answer}")
  list(GET _answer 0 DEEPLAB_SITE_PACKAGES)
  list(GET _answer 1 DEEPLAB_LIBPYTHON)
endif()
