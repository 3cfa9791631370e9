/* commands.h: the subcommands of `likeness`. One file cmd_NAME.c each; main.c holds the table. */
#ifndef LK_COMMANDS_H
#define LK_COMMANDS_H

/* argv[0] is the command's name. The value is the exit status: 0 done, 1 failed, 2 the command line is wrong. */
typedef int srv_command(int argc, char **argv);

srv_command srv_cmd_serve;
srv_command srv_cmd_import;
srv_command srv_cmd_search;
srv_command srv_cmd_embed;
srv_command srv_cmd_model;
srv_command srv_cmd_bench;
srv_command srv_cmd_health;
srv_command srv_cmd_key;

#endif
