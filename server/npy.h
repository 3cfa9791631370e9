/* npy.h: NumPy's array files (format versions 1 and 2, little endian, C order), for `likeness model run`. */
#ifndef LK_NPY_H
#define LK_NPY_H

#include "embed.h"

/* out->data: malloc, caller frees; the name is left empty. false: err says what is wrong with the file. */
EMB_CHECK bool srv_npy_read(const char *path, emb_tensor *out, char err[320]);
EMB_CHECK bool srv_npy_write(const char *path, const emb_tensor *t, char err[320]);

#endif
