/* storage.h: the smallest way to keep a catalogue's vectors that still finds their neighbours, by its own data. */
#ifndef LK_STORAGE_H
#define LK_STORAGE_H

#include "rows.h"

/* rows: float32, n of them that are alive. Compares the ten nearest of some of them as each way has them with those that float32
 * has. *recall: of int8 and of float16, for the log. Some tenths of a second; `stop` ends it with IDX_EBUSY. */
IDX_CHECK idx_status idx_storage_choose(const idx_rows *v, const uint32_t *rows, uint32_t n, const _Atomic bool *stop, idx_storage *out, double recall[2],
                                        idx_error *err);

#endif
