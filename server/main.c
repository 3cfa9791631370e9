/* main.c: the `likeness` program: finds the subcommand, and sets what must be in the environment before the numeric
 * libraries load. */
#include "commands.h"
#include "embed.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    srv_command *run;
    const char *help;
} commands[] = {
    {"serve", srv_cmd_serve, "answer HTTP: the catalogue and the search"},
    {"import", srv_cmd_import, "send a folder of photos, or a CSV or NDJSON list, to a server"},
    {"search", srv_cmd_search, "find the items that look like a photo"},
    {"embed", srv_cmd_embed, "write the embeddings of image files"},
    {"model", srv_cmd_model, "inspect or run an ONNX model"},
    {"bench", srv_cmd_bench, "measure a server, or this machine"},
    {"key", srv_cmd_key, "make a new admin key"},
    {"health", srv_cmd_health, "ask a server whether it is ready"},
    {NULL, NULL, NULL},
};

static void usage(FILE *to)
{
    fputs("usage: likeness COMMAND [OPTIONS]\n\nImage-based product search: send a catalogue, search it with a photo.\n\n", to);
    for (size_t i = 0; commands[i].name != NULL; i++)
        fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].help);
    fputs("\nlikeness COMMAND --help says more; likeness --version prints the version.\n", to);
}

/* One thread for each BLAS call and OpenMP region: the compute pool is the parallelism. Both libraries read this when they
 * are loaded, so that it must be there before main(): set it and start again. Debian 12's OpenBLAS does not know newer
 * processors and takes kernels of 2004 for them; emb_cpu_blas_coretype() knows better. */
static void settle_environment(char **argv)
{
    bool again = false;
    const struct {
        const char *name, *value;
        bool force;
    } wanted[] = {
        {"OMP_NUM_THREADS", "1", true},
        {"OPENBLAS_NUM_THREADS", "1", true},
        {"OPENBLAS_CORETYPE", emb_cpu_blas_coretype(), false},
        {"MALLOC_ARENA_MAX", "4", false}, // bounded memory beats the last percent of malloc's speed
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const char *is = getenv(wanted[i].name);
        if (wanted[i].value == NULL || (is != NULL && (!wanted[i].force || strcmp(is, wanted[i].value) == 0))) continue;
        if (setenv(wanted[i].name, wanted[i].value, 1) == 0) again = true;
    }
    if (again) execv("/proc/self/exe", argv); // returns only on failure: go on, slower but right
}

int main(int argc, char **argv)
{
    settle_environment(argv);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("likeness " LK_VERSION);
        return 0;
    }
    for (size_t i = 0; commands[i].name != NULL; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "likeness: unknown command \"%s\"\n\n", argv[1]);
    usage(stderr);
    return 2;
}
