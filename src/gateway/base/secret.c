/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

struct stamp { /* what tells a file from what it was */
    dev_t dev;
    ino_t ino;
    off_t bytes;
    struct timespec changed;
};

struct hg_secret {
    pthread_mutex_t lock; /* over all that follows but the path */
    uint64_t version, looked_ms;
    struct stamp stamp;  /* of the content we have */
    struct stamp coming; /* of a change that was seen, and is read once it holds still */
    char *text;
    char path[];
};

static bool stamp_of(int fd, const char *path, struct stamp *out)
{
    struct stat st;
    *out = (struct stamp){0};
    if ((fd >= 0 ? fstat(fd, &st) : stat(path, &st)) != 0) {
        return false;
    }
    out->dev = st.st_dev;
    out->ino = st.st_ino;
    out->bytes = st.st_size;
    out->changed = st.st_mtim;
    return true;
}

static bool is_same(const struct stamp *a, const struct stamp *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->bytes == b->bytes &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static void forget_text(char *text)
{
    if (text != NULL) {
        hg_forget(text, strlen(text));
    }
    hg_free(text);
}

/* The whole file; false where it is longer than n_max. */
static bool read_all(int fd, char *into, size_t n_max, size_t *n_out)
{
    size_t n = 0;
    ssize_t got;
    while ((got = read(fd, into + n, n_max - n)) > 0) {
        n += (size_t)got;
    }
    *n_out = n;
    return got == 0 && n < n_max;
}

/* The content, less one line end; NULL: *why_out. */
static char *read_text(const char *path, struct stamp *stamp, const char **why_out)
{
    char *text = hg_alloc(HG_SECRET_MAX_BYTES + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t n = 0;
    *why_out = NULL;
    if (text == NULL) {
        *why_out = "out of memory";
    } else if (fd < 0 || !stamp_of(fd, NULL, stamp)) {
        *why_out = strerrordesc_np(errno);
    } else if (!read_all(fd, text, HG_SECRET_MAX_BYTES, &n)) {
        *why_out = "is no file of less than 64 KiB";
    } else {
        n -= n > 0 && text[n - 1] == '\n';
        n -= n > 0 && text[n - 1] == '\r';
        text[n] = '\0';
        if (n == 0 || strlen(text) != n) {
            *why_out = n == 0 ? "is empty" : "holds a NUL byte";
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    char *copy = *why_out == NULL ? hg_strdup(text) : NULL;
    if (*why_out == NULL && copy == NULL) {
        *why_out = "out of memory";
    }
    if (text != NULL) {
        hg_forget(text, n);
    }
    hg_free(text);
    return copy;
}

struct hg_secret *hg_secret_new(const char *path, const char **why_out)
{
    size_t n = strlen(path) + 1;
    struct hg_secret *s = hg_zalloc(sizeof(*s) + n);
    if (s == NULL) {
        *why_out = "out of memory";
        return NULL;
    }
    memcpy(s->path, path, n);
    s->version = 1;
    s->text = read_text(path, &s->stamp, why_out);
    if (s->text == NULL) {
        hg_free(s);
        return NULL;
    }
    s->coming = s->stamp;
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

void hg_secret_free(struct hg_secret *s)
{
    if (s != NULL) {
        pthread_mutex_destroy(&s->lock);
        forget_text(s->text);
        hg_free(s);
    }
}

static void read_again(struct hg_secret *s, struct hg_log *log)
{
    const char *why;
    struct stamp stamp = s->coming;
    char *text = read_text(s->path, &stamp, &why);
    s->stamp = s->coming = stamp; /* what is not good is not read again until it changes */
    if (text == NULL) {
        HG_LOG_LIMITED(log, HG_LOG_ERROR, "rabbitmq.secret_kept", hg_bytes_str(s->path),
                       HG_F_STR("file", s->path), HG_F_STR("reason", why));
        return;
    }
    if (strcmp(text, s->text) == 0) {
        forget_text(text);
        return;
    }
    forget_text(s->text);
    s->text = text;
    s->version++;
    HG_LOG(log, HG_LOG_INFO, "rabbitmq.secret_read", HG_F_STR("file", s->path),
           HG_F_UINT("version", s->version));
}

void hg_secret_look(struct hg_secret *s, uint64_t now_ms, bool is_asked, struct hg_log *log)
{
    pthread_mutex_lock(&s->lock);
    if (is_asked || s->looked_ms == 0 || now_ms >= s->looked_ms + HG_SECRET_LOOK_MS) {
        struct stamp stamp;
        s->looked_ms = now_ms;
        stamp_of(-1, s->path, &stamp); /* one that is away has a stamp of zeroes */
        bool holds_still = is_same(&stamp, &s->coming);
        s->coming = stamp;
        if (!is_same(&stamp, &s->stamp) && (holds_still || is_asked)) {
            read_again(s, log);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

uint64_t hg_secret_version(struct hg_secret *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t version = s->version;
    pthread_mutex_unlock(&s->lock);
    return version;
}

char *hg_secret_copy(struct hg_secret *s, uint64_t *version_out)
{
    pthread_mutex_lock(&s->lock);
    char *copy = hg_strdup(s->text);
    *version_out = s->version;
    pthread_mutex_unlock(&s->lock);
    return copy;
}
