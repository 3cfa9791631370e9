/* web.h: the files of the web page, part of the program. */
#ifndef LK_WEB_H
#define LK_WEB_H

#include <stddef.h>

extern const char srv_web_page[], srv_web_script[], srv_web_style[];
size_t srv_web_page_bytes(void), srv_web_script_bytes(void), srv_web_style_bytes(void);

#endif
