/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: subcommands, options, exit codes. */
#include "base/mem.h"
#include "check.h"
#include "check_live.h"
#include "core/identity.h"
#include "core/supervisor.h"
#include "passwd.h"
#include "route.h"
#include "rules/access.h"
#include "version.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EXIT_FINE = 0, EXIT_GIVEN = 1, EXIT_RUNNING = 2 };

struct options {
    const char *config_file;
    const char **sets_own;
    size_t sets_n;
    const char *as_user, *client_id; /* route: who asks; NULL: not said */
    const char *roles[HG_ROLES_MAX]; /* likewise, beside the user's */
    size_t roles_n;
    bool is_json, is_live, wants_help;
    char **words; /* what is no option, in argv itself */
    int words_n;
};

static const char usage[] =
    "usage: headgate run   -c FILE [--set key=value ...]     run the gateway (foreground)\n"
    "       headgate check -c FILE [--set key=value ...]     validate a configuration\n"
    "       headgate check --live -c FILE                    ... and ask RabbitMQ about it\n"
    "       headgate route -c FILE [--json] PROTO publish ADDRESS\n"
    "       headgate route -c FILE [--json] PROTO subscribe FILTER\n"
    "       headgate route -c FILE [--json] amqp deliver EXCHANGE KEY\n"
    "       headgate passwd                                  make a [[user]]'s password line\n"
    "       headgate version\n"
    "PROTO is mqtt, stomp or http. route --as USER, --role ROLE (again for more) and --client-id ID\n"
    "answer for such a client. Exit codes: 0 fine, 1 a problem with what was given, 2 a\n"
    "problem while running. config/headgate.toml documents every key.\n";

static int complain(const char *what, const char *word)
{
    fprintf(stderr, "headgate: %s %s; `headgate --help` lists what there is\n", what, word);
    return EXIT_GIVEN;
}

/* To standard output; a full disk or a closed pipe is a problem while running. */
static int print(struct hg_writer *text, int code)
{
    struct hg_bytes all = hg_writer_view(text);
    bool is_written = !text->failed && fwrite(all.p, 1, all.n, stdout) == all.n;
    is_written = fflush(stdout) == 0 && is_written;
    hg_writer_close(text);
    if (!is_written) {
        perror("headgate: standard output");
    }
    return is_written ? code : EXIT_RUNNING;
}

static struct hg_config *load(const struct options *o)
{
    struct hg_writer errors = {0};
    struct hg_config *c = hg_config_load(o->config_file, o->sets_own, o->sets_n, &errors);
    struct hg_bytes text = hg_writer_view(&errors);
    if (c == NULL) {
        fprintf(stderr, "%.*s", HG_BYTES_FMT(text));
    }
    hg_writer_close(&errors);
    return c;
}

/* A descriptor a connection: the soft limit, 1024 by habit, is there for programs that use select. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run(const struct options *o, const struct hg_config *c)
{
    (void)o;
    raise_file_limit();
    struct hg_log *log = hg_log_new(STDERR_FILENO, c->log_level, c->log_is_json);
    if (log == NULL) {
        return EXIT_RUNNING;
    }
    int code = hg_supervisor_run(c, hg_adapters, log);
    hg_log_free(log);
    return code;
}

static int check(const struct options *o, const struct hg_config *c)
{
    static const int codes[] = {
        [HG_LIVE_FINE] = EXIT_FINE, [HG_LIVE_REFUSED] = EXIT_GIVEN, [HG_LIVE_AWAY] = EXIT_RUNNING};
    struct hg_writer out = {0};
    hg_check_command(c, &out);
    return print(&out, o->is_live ? codes[hg_check_live_command(c, &out)] : EXIT_FINE);
}

/* Who asks: a [[user]] with its roles, or any name, and the roles named beside. False: complained. */
static bool find_who(const struct options *o, const struct hg_config *c, struct hg_rule_who *who)
{
    *who = (struct hg_rule_who){.roles = HG_ROLE_EVERYBODY};
    who->user = o->as_user == NULL ? HG_BYTES("") : hg_bytes_str(o->as_user);
    who->client_id = o->client_id == NULL ? HG_BYTES("") : hg_bytes_str(o->client_id);
    for (size_t i = 0; i < c->users.users_n; i++) {
        if (hg_bytes_eq(hg_bytes_str(c->users.users[i].name), who->user)) {
            who->roles |= c->users.users[i].roles;
        }
    }
    for (size_t i = 0; i < o->roles_n; i++) {
        size_t at = 0;
        while (at < c->roles_n && strcmp(c->roles[at], o->roles[i]) != 0) {
            at++;
        }
        if (at == c->roles_n) {
            complain("the configuration names no role", o->roles[i]);
            return false;
        }
        who->roles |= UINT64_C(1) << at;
    }
    return true;
}

static int route(const struct options *o, const struct hg_config *c)
{
    struct hg_rule_who who;
    bool has_who = o->as_user != NULL || o->client_id != NULL || o->roles_n > 0;
    if (has_who && !find_who(o, c, &who)) {
        return EXIT_GIVEN;
    }
    if (o->words_n < 3 || o->words_n > 4) {
        return complain(o->words_n < 3 ? "too few arguments for" : "too many arguments for",
                        "route");
    }
    const char *key = o->words_n == 4 ? o->words[3] : NULL;
    int code = hg_route_command(c, has_who ? &who : NULL, o->is_json, o->words[0], o->words[1],
                                o->words[2], key, stdout, stderr);
    return fflush(stdout) == 0 ? code : EXIT_RUNNING;
}

static int passwd(const struct options *o, const struct hg_config *c)
{
    (void)o;
    (void)c;
    struct hg_writer out = {0};
    const char *why;
    if (!hg_passwd_command(&out, &why)) {
        fprintf(stderr, "headgate: %s\n", why);
        return EXIT_GIVEN;
    }
    return print(&out, EXIT_FINE);
}

static int version(const struct options *o, const struct hg_config *c)
{
    (void)o;
    (void)c;
    struct hg_writer out = {0};
    hg_version_write(&out);
    return print(&out, EXIT_FINE);
}

/* clang-format off */
static const struct command {
    const char *name;
    int (*run)(const struct options *o, const struct hg_config *c);
    bool needs_config, takes_words;
} commands[] = {
    {"run",     run,     true,  false},
    {"check",   check,   true,  false},
    {"route",   route,   true,  true},
    {"passwd",  passwd,  false, false},
    {"version", version, false, false},
};
/* clang-format on */

/* The option's value: behind its `=`, or the next argument. NULL, and a complaint, if there is none. */
static const char *value_of(int argc, char **argv, int *i, size_t name_n)
{
    if (argv[*i][name_n] == '=') {
        return argv[*i] + name_n + 1;
    }
    if (*i + 1 >= argc) {
        complain("no value for", argv[*i]);
        return NULL;
    }
    return argv[++*i];
}

static bool is_option(const char *arg, const char *name, bool takes_value)
{
    size_t n = strlen(name);
    return strncmp(arg, name, n) == 0 && (arg[n] == '\0' || (takes_value && arg[n] == '='));
}

static bool asks_for_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

static bool read_options(int argc, char **argv, struct options *o)
{
    bool only_words = false;
    for (int i = 2; i < argc; i++) {
        if (only_words || argv[i][0] != '-' || argv[i][1] == '\0') {
            o->words[o->words_n++] = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (is_option(argv[i], "-c", false)) {
            if ((o->config_file = value_of(argc, argv, &i, 2)) == NULL) {
                return false;
            }
        } else if (is_option(argv[i], "--set", true)) {
            const char *set = value_of(argc, argv, &i, strlen("--set"));
            if (set == NULL) {
                return false;
            }
            o->sets_own[o->sets_n++] = set;
        } else if (is_option(argv[i], "--as", true)) {
            if ((o->as_user = value_of(argc, argv, &i, strlen("--as"))) == NULL) {
                return false;
            }
        } else if (is_option(argv[i], "--client-id", true)) {
            if ((o->client_id = value_of(argc, argv, &i, strlen("--client-id"))) == NULL) {
                return false;
            }
        } else if (is_option(argv[i], "--role", true) && o->roles_n < HG_ROLES_MAX) {
            if ((o->roles[o->roles_n] = value_of(argc, argv, &i, strlen("--role"))) == NULL) {
                return false;
            }
            o->roles_n++;
        } else if (strcmp(argv[i], "--json") == 0) {
            o->is_json = true;
        } else if (strcmp(argv[i], "--live") == 0) {
            o->is_live = true;
        } else if (asks_for_help(argv[i])) {
            o->wants_help = true;
        } else {
            complain("unknown option", argv[i]);
            return false;
        }
    }
    return true;
}

static int run_command(const struct command *command, const struct options *o)
{
    if (!command->takes_words && o->words_n > 0) {
        return complain("unexpected argument", o->words[0]);
    }
    if (!command->takes_words && o->is_json) {
        return complain("--json means nothing to", command->name);
    }
    if (!command->takes_words && (o->as_user != NULL || o->client_id != NULL || o->roles_n > 0)) {
        return complain("--as, --role and --client-id mean nothing to", command->name);
    }
    if (command->run != check && o->is_live) {
        return complain("--live means nothing to", command->name);
    }
    if (!command->needs_config) {
        return command->run(o, NULL);
    }
    if (o->config_file == NULL) {
        return complain("no configuration (-c FILE) for", command->name);
    }
    struct hg_config *c = load(o);
    if (c == NULL) {
        return EXIT_GIVEN;
    }
    int code = command->run(o, c);
    hg_config_free(c);
    return code;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static int print_usage(void)
{
    struct hg_writer out = {0};
    hg_writer_str(&out, usage);
    return print(&out, EXIT_FINE);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs(usage, stderr);
        return EXIT_GIVEN;
    }
    if (asks_for_help(argv[1])) {
        return print_usage();
    }
    const struct command *command = find_command(argv[1]);
    if (command == NULL) {
        return complain("unknown command", argv[1]);
    }
    struct options o = {.words = argv + 2};
    o.sets_own = hg_zalloc((size_t)argc * sizeof *o.sets_own);
    int code = EXIT_GIVEN;
    if (o.sets_own == NULL) {
        code = EXIT_RUNNING;
    } else if (read_options(argc, argv, &o)) {
        code = o.wants_help ? print_usage() : run_command(command, &o);
    }
    hg_free(o.sets_own);
    return code;
}
