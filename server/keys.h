/* keys.h: the admin key. 32 random bytes, shown once; the data folder keeps its SHA-256 (a slow hash buys nothing for a
 * 256-bit secret). A new key works at once: the file is looked at again whenever it has changed. */
#ifndef LK_KEYS_H
#define LK_KEYS_H

#include "embed.h"

#define SRV_KEY_TEXT 47 /* "lk_" + 43 characters of base64url + NUL */

typedef struct srv_keys srv_keys;

/* Makes a key and writes DIR/admin-key (mode 0600, atomically): its first characters, to tell keys apart, and its hash. */
EMB_CHECK bool srv_key_create(const char *dir, char text[SRV_KEY_TEXT], char err[320]);
bool srv_key_exists(const char *dir);
/* The first characters of the key in force, "lk_Ab12Cd"; "" when there is none. */
void srv_key_prefix(const char *dir, char prefix[16]);

/* Exactly one way: key_file (the first line is the key; only its hash is kept in memory), or dir's own. NULL: err says
 * why. */
EMB_CHECK srv_keys *srv_keys_open(const char *dir, const char *key_file, char err[320]);
/* authorization: the header's value or NULL. Any thread; constant time in the key. */
bool srv_keys_allow(srv_keys *k, const char *authorization);
void srv_keys_free(srv_keys *k);

#endif
