/* builtin.c: the trained model's ONNX file as bytes of the program. LK_BUILTIN_ONNX is its path, given by the build. */
__asm__(".section .rodata\n"
        ".balign 64\n"
        ".global emb_builtin_onnx\n"
        ".hidden emb_builtin_onnx\n"
        "emb_builtin_onnx:\n"
        ".incbin \"" LK_BUILTIN_ONNX "\"\n"
        ".global emb_builtin_onnx_end\n"
        ".hidden emb_builtin_onnx_end\n"
        "emb_builtin_onnx_end:\n"
        ".byte 0\n"
        ".previous\n");

typedef int emb_builtin_not_empty; /* C asks for one declaration */
