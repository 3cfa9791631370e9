/* web.c: server/web/ as bytes of the program. Both ends are global: on arm64 C reaches them through the GOT, which has no
 * entries for a label of the assembler alone. */
#include "web.h"

#define EMBED(NAME, FILE)                                                                                              \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".globl srv_web_" #NAME "\n.hidden srv_web_" #NAME "\n"                                                    \
            "srv_web_" #NAME ":\n.incbin \"" LK_WEB_DIR "/" FILE "\"\n"                                                \
            ".globl srv_web_" #NAME "_end\n.hidden srv_web_" #NAME "_end\n"                                            \
            "srv_web_" #NAME "_end:\n.byte 0\n"                                                                        \
            ".popsection\n");                                                                                          \
    extern const char srv_web_##NAME##_end[] __asm__("srv_web_" #NAME "_end");                                         \
    size_t srv_web_##NAME##_bytes(void) { return (size_t) (srv_web_##NAME##_end - srv_web_##NAME); }

EMBED(page, "index.html")
EMBED(script, "app.js")
EMBED(style, "style.css")
