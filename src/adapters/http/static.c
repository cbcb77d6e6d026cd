/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the configured folder, for examples and small pages. Nothing outside the folder and
 * nothing hidden is served. */
#include "adapters/http/http_uri.h"
#include "adapters/http/web.h"
#include "core/config.h"
#include "core/worker.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *extension, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".json", "application/json"},
    {".map", "application/json"},
    {".txt", "text/plain; charset=utf-8"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".jpg", "image/jpeg"},
    {".ico", "image/x-icon"},
    {".wasm", "application/wasm"},
    {".woff2", "font/woff2"},
};

static const char *type_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(dot, types[i].extension) == 0) {
            return types[i].type;
        }
    }
    return "application/octet-stream";
}

bool hg_http_static_takes(const struct hg_http_request *req)
{
    const struct hg_http_head *h = &req->in.head;
    return req->session->worker->config->http_static_dir != NULL &&
           (h->method == HG_HTTP_GET || h->method == HG_HTTP_HEAD) &&
           !hg_http_path_is_reserved(h->path);
}

/* Where a path of the site lies; false if there is nothing to serve. `resolved` has PATH_MAX
 * bytes. */
static bool resolve(const char *dir, struct hg_bytes path, char *resolved)
{
    char root[PATH_MAX];
    struct hg_writer w = {0};
    hg_writer_str(&w, dir);
    size_t dir_n = hg_writer_n(&w);
    bool is_fine = hg_http_decode_path(path, &w) == NULL;
    if (is_fine && path.p[path.n - 1] == '/') {
        hg_writer_str(&w, "index.html");
    }
    hg_writer_u8(&w, 0);
    is_fine = is_fine && !w.failed;
    if (is_fine) {
        const char *full = (const char *)hg_writer_view(&w).p;
        is_fine = strstr(full + dir_n, "/.") == NULL && strstr(full + dir_n, "//") == NULL &&
                  realpath(dir, root) != NULL && realpath(full, resolved) != NULL;
    }
    hg_writer_close(&w);
    if (!is_fine) {
        return false;
    }
    /* A link may lead anywhere: what counts is where the file really is. */
    size_t root_n = strcmp(root, "/") == 0 ? 0 : strlen(root);
    return strncmp(resolved, root, root_n) == 0 &&
           (resolved[root_n] == '/' || resolved[root_n] == 0);
}

/* Reads all of fd; false if it cannot, or if the file changed its size meanwhile. */
static bool read_all(int fd, size_t n, struct hg_writer *out)
{
    uint8_t *p = hg_writer_reserve(out, n);
    size_t at = 0;
    while (p != NULL && at < n) {
        ssize_t got = read(fd, p + at, n - at);
        if (got <= 0) {
            return false;
        }
        at += (size_t)got;
    }
    if (p != NULL) {
        hg_writer_commit(out, n);
    }
    return p != NULL;
}

static void refuse(struct hg_http_request *req, unsigned status, const char *detail)
{
    hg_http_refuse(req, &(struct hg_http_answer){.status = status}, hg_bytes_str(detail), NULL);
}

/* A folder is served by its index.html, whose links are relative to the folder. */
static void redirect_to_folder(struct hg_http_request *req)
{
    struct hg_writer location = {0};
    hg_writer_bytes(&location, req->in.head.path);
    hg_writer_u8(&location, '/');
    struct hg_http_answer_field field = {"Location", hg_writer_view(&location)};
    hg_http_answer(req, &(struct hg_http_answer){.status = 301, .fields = &field, .fields_n = 1});
    hg_writer_close(&location);
}

static void answer_file(struct hg_http_request *req, const char *path, int fd, size_t n)
{
    const struct hg_http_answer_field fields[] = {
        {"Cache-Control", HG_BYTES("no-cache")},
        {"X-Content-Type-Options", HG_BYTES("nosniff")},
    };
    struct hg_writer body = {0};
    if (!read_all(fd, n, &body)) {
        hg_writer_close(&body);
        refuse(req, 500, "the file could not be read");
        return;
    }
    hg_http_answer(
        req,
        &(struct hg_http_answer){
            .status = 200, .type = type_of(path), .body = &body, .fields = fields, .fields_n = 2});
}

bool hg_http_static(struct hg_http_request *req)
{
    const char *dir = req->session->worker->config->http_static_dir;
    char path[PATH_MAX];
    struct stat st;
    int fd = -1;
    if (resolve(dir, req->in.head.path, path)) {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    }
    bool is_there = fd >= 0 && fstat(fd, &st) == 0;
    if (is_there && S_ISDIR(st.st_mode)) {
        redirect_to_folder(req);
    } else if (!is_there || !S_ISREG(st.st_mode)) {
        refuse(req, 404, "there is no such file");
    } else if (st.st_size > HG_HTTP_FILE_MAX) {
        refuse(req, 500, "the file is larger than the 4 MiB that are served from here");
    } else {
        answer_file(req, path, fd, (size_t)st.st_size);
    }
    if (fd >= 0) {
        close(fd);
    }
    return true;
}
