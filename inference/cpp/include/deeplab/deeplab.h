/* The C interface of the segmenter, for other languages to bind. See deeplab.hpp for what it does.
 *
 *     deeplab_segmenter* segmenter = NULL;
 *     if (deeplab_open("model.tflite", NULL, &segmenter) != DEEPLAB_OK) return fail(deeplab_error());
 *     if (deeplab_segment(segmenter, pixels, height, width, row_bytes, DEEPLAB_RGB, labels) != DEEPLAB_OK)
 *       return fail(deeplab_error());
 *     deeplab_close(segmenter);
 *
 * Functions return a code and never throw or exit. A segmenter serves one thread at a time.
 */
#ifndef DEEPLAB_DEEPLAB_H
#define DEEPLAB_DEEPLAB_H

#include <stddef.h>
#include <stdint.h>

#include "deeplab/export.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { DEEPLAB_OK = 0, DEEPLAB_INTERNAL = 1, DEEPLAB_USAGE = 2, DEEPLAB_DATA = 3, DEEPLAB_MISSING = 5 };
enum { DEEPLAB_RGB = 0, DEEPLAB_BGR = 1, DEEPLAB_RGBA = 2, DEEPLAB_BGRA = 3, DEEPLAB_GREY = 4 };

typedef struct deeplab_segmenter deeplab_segmenter;

/* Fill with zeros, then set `size` and what is wanted. Strings are UTF-8 and copied. */
typedef struct {
  size_t size;        /* sizeof(deeplab_options): lets later versions add fields */
  const char* engine; /* tflite, mnn, openvino or onnx; NULL: by the file's extension */
  const char* device; /* NULL: the CPU */
  const char* spec;   /* spec file; NULL: the model's name with ".spec.json" */
  int32_t threads;    /* 0: all cores */
  int32_t half;       /* not 0: 16-bit arithmetic where the engine has it */
} deeplab_options;

/* Milliseconds of the last picture. */
typedef struct {
  double prepare, network, labels;
} deeplab_timings;

/* Open a model; `options` may be NULL. `*opened` is set only on success; close it with deeplab_close. */
DEEPLAB_API int32_t deeplab_open(const char* path, const deeplab_options* options, deeplab_segmenter** opened);
DEEPLAB_API void deeplab_close(deeplab_segmenter* segmenter); /* NULL does nothing */

/* Label a picture: 8 bits a channel, `row_bytes` from row to row (0: no gaps). `labels` has room for height * width. */
DEEPLAB_API int32_t deeplab_segment(deeplab_segmenter* segmenter, const uint8_t* pixels, int32_t height, int32_t width,
                                    ptrdiff_t row_bytes, int32_t format, uint8_t* labels);

DEEPLAB_API deeplab_timings deeplab_last_timings(const deeplab_segmenter* segmenter);
DEEPLAB_API int32_t deeplab_class_count(const deeplab_segmenter* segmenter);
DEEPLAB_API const char* deeplab_class_name(const deeplab_segmenter* segmenter, int32_t label); /* NULL: no such class */
/* Red, green and blue as 0xRRGGBB; -1: no such class. */
DEEPLAB_API int32_t deeplab_class_color(const deeplab_segmenter* segmenter, int32_t label);
DEEPLAB_API const char* deeplab_description(const deeplab_segmenter* segmenter); /* one line, good until it is closed */

/* One sentence on this thread's last call that failed; good until its next call that fails. */
DEEPLAB_API const char* deeplab_error(void);

#ifdef __cplusplus
}
#endif
#endif
