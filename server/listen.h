/* listen.h: addresses, listening and connected sockets. */
#ifndef LK_LISTEN_H
#define LK_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* "HOST:PORT", "[::1]:8080", ":8080" (every address) -> a listening socket, or -1 and the reason. */
int srv_listen(const char *where, char err[320]);
/* The same text -> a connected socket whose calls end after `seconds`, or -1 and the reason. An address that stands for
 * all of this machine's ("", 0.0.0.0, [::]) reaches it by its own. */
int srv_connect(const char *where, unsigned seconds, char err[320]);
/* Numeric text of an address: "127.0.0.1" or "[::1]:8080". */
void srv_address_text(const struct sockaddr *a, socklen_t n, bool with_port, char *out, size_t room);

#endif
