/* What the shared library shows. */
#ifndef DEEPLAB_EXPORT_H
#define DEEPLAB_EXPORT_H

#if defined(__GNUC__)
#define DEEPLAB_API __attribute__((visibility("default")))
#else
#define DEEPLAB_API
#endif

#endif
