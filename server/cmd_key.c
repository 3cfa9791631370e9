/* cmd_key.c: `likeness key`: the admin key of a data folder. */
#include "commands.h"
#include "keys.h"
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int srv_cmd_key(int argc, char **argv)
{
    const char *data = "likeness-data";
    const srv_opt opts[] = {{"data", "DIR", SRV_OPT_TEXT, &data, 0, 0, "data folder of the server (./likeness-data)"}};
    srv_opts table = {"likeness key create|show [--data DIR]",
                      "create  makes a new admin key, prints it once and stores its hash. A running server takes it at once;\n"
                      "        the key before it stops working.\n"
                      "show    prints the first characters of the key in force.", opts, 1, false};
    char **args = calloc((size_t) argc, sizeof *args), err[320], key[SRV_KEY_TEXT], prefix[16];
    int n = 0, rc = 2;
    const char *env = getenv("LIKENESS_DATA");
    if (env != NULL) data = env;
    srv_opts_result what = args != NULL ? srv_opts_read(&table, argc, argv, args, &n) : SRV_OPTS_WRONG;
    if (what == SRV_OPTS_HELP) {
        rc = 0;
    } else if (what == SRV_OPTS_GO && n == 1 && strcmp(args[0], "create") == 0) {
        (void) mkdir(data, 0750); // a key may be made before the first start
        rc = srv_key_create(data, key, err) ? 0 : 1;
        if (rc == 0) puts(key);
        else fprintf(stderr, "likeness: key: %s\n", err);
        explicit_bzero(key, sizeof key);
    } else if (what == SRV_OPTS_GO && n == 1 && strcmp(args[0], "show") == 0) {
        srv_key_prefix(data, prefix);
        rc = prefix[0] != '\0' ? 0 : 1;
        if (rc == 0) printf("%s...\n", prefix);
        else fprintf(stderr, "likeness: key: %s has no key\n", data);
    } else if (what == SRV_OPTS_GO) {
        fputs("likeness: key: say create or show (see likeness key --help)\n", stderr);
    }
    free(args);
    return rc;
}
