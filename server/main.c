/* main.c: the `likeness` program: finds the subcommand. */
#include "commands.h"
#include "environment.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

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

int main(int argc, char **argv)
{
    srv_settle_environment(argv);
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
