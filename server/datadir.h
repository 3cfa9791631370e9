/* datadir.h: the data folder belongs to one process at a time. */
#ifndef LK_DATADIR_H
#define LK_DATADIR_H

#include <stdbool.h>

/* Makes the folder when it is missing (0750) and takes DIR/lock. The lock goes with the process, however it ends.
 * Returns the descriptor, to be kept open, or -1 and the reason in err. */
int srv_datadir_lock(const char *dir, char err[320]);

#endif
