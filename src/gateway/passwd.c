/* SPDX-License-Identifier: Apache-2.0 */
#include "passwd.h"

#include "base/mem.h"
#include "core/password.h"

#include <stdio.h>
#include <termios.h>
#include <unistd.h>

struct typed {
    char text[HG_PASSWORD_MAX_BYTES + 2]; /* a line's end and NUL */
    size_t n;
};

/* Byte by byte: stdio would keep a copy. False: no line, or one that is too long. */
static bool read_line(struct typed *t)
{
    char c;
    ssize_t n;
    t->n = 0;
    while ((n = read(STDIN_FILENO, &c, 1)) == 1 && c != '\n') {
        if (t->n == HG_PASSWORD_MAX_BYTES) {
            return false;
        }
        t->text[t->n++] = c;
    }
    return n == 1 || t->n > 0;
}

static bool ask(const char *question, struct typed *t)
{
    struct termios before;
    if (tcgetattr(STDIN_FILENO, &before) != 0) {
        return read_line(t);
    }
    struct termios silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    fputs(question, stderr); /* from here on nothing that is typed is shown, or lost */
    bool is_read = read_line(t);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    return is_read;
}

bool hg_passwd_command(struct hg_writer *out, const char **why_out)
{
    struct typed first, again = {0};
    char line[HG_PASSWORD_LINE_SIZE];
    bool is_terminal = isatty(STDIN_FILENO);
    *why_out = NULL;
    if (!ask("Password: ", &first) || first.n == 0) {
        *why_out = "a password has 1 to 1024 bytes";
    } else if (is_terminal && (!ask("The same again: ", &again) || again.n != first.n ||
                               memcmp(again.text, first.text, first.n) != 0)) {
        *why_out = "these are two different passwords";
    } else if (!hg_password_make(hg_bytes(first.text, first.n), line)) {
        *why_out = "out of memory";
    } else {
        hg_writer_printf(out, "%s\n", line);
    }
    hg_forget(&first, sizeof(first));
    hg_forget(&again, sizeof(again));
    return *why_out == NULL;
}
