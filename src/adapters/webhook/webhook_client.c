/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/webhook/webhook_client.h"

#include "base/clock.h"
#include "base/mem.h"

#include <curl/curl.h>
#include <netdb.h>
#include <stdio.h>
#include <unistd.h>

enum {
    HEAD_MAX_BYTES = 64 * 1024, /* of an answer */
    NAMES_FRESH_MS = 5000,      /* how long addresses are believed */
    MS_PER_S = 1000
};

struct hg_webhook_client {
    struct hg_worker *worker;
    const struct hg_webhook_spec *spec;
    hg_webhook_done_fn *done;
    void (*closed)(void *ctx);
    void *ctx;
    CURLM *multi;
    uv_timer_t timer;
    uv_getaddrinfo_t lookup;
    struct hg_list asleep;  /* calls that wait for addresses */
    struct hg_list active;  /* calls that libcurl has */
    struct hg_writer names; /* "a,b", those that may be connected to */
    uint64_t names_ms;      /* when that was found; 0: not, or no longer */
    bool is_looking, is_closing;
    bool is_literal;    /* the host is an address, which the configuration has checked */
    unsigned handles_n; /* of libuv, this client's timer and lookup among them */
};

struct hg_webhook_call {
    struct hg_list link;
    struct hg_webhook_client *client;
    CURL *easy;
    struct curl_slist *fields, *resolve;
    struct hg_bytes body;
    uint64_t id, started_ms;
    struct hg_timer limit; /* while it waits for addresses */
    size_t head_bytes, answer_bytes;
    bool has_failed; /* no memory for a field */
    bool is_forbidden, is_head_overlong, is_body_overlong;
    char error[CURL_ERROR_SIZE];
};

struct watch { /* one of libcurl's sockets */
    uv_poll_t poll;
    struct hg_webhook_client *client;
    curl_socket_t socket;
};

/* ---- The end of a client ---- */

static void handle_gone(struct hg_webhook_client *c)
{
    if (--c->handles_n > 0 || !c->is_closing) {
        return;
    }
    void (*closed)(void *) = c->closed;
    void *ctx = c->ctx;
    hg_writer_close(&c->names);
    hg_free(c);
    closed(ctx);
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_gone(handle->data);
}

static void free_call(struct hg_webhook_call *call)
{
    hg_timer_stop(&call->limit);
    hg_list_remove(&call->link);
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->fields);
    curl_slist_free_all(call->resolve);
    hg_free(call);
}

static void drop_calls(struct hg_webhook_client *c, struct hg_list *calls)
{
    HG_LIST_FOREACH_SAFE (it, calls) {
        struct hg_webhook_call *call = HG_LIST_ENTRY(it, struct hg_webhook_call, link);
        curl_multi_remove_handle(c->multi, call->easy);
        free_call(call);
    }
}

void hg_webhook_client_close(struct hg_webhook_client *c, void (*closed)(void *ctx))
{
    c->is_closing = true;
    c->closed = closed;
    drop_calls(c, &c->asleep);
    drop_calls(c, &c->active);
    curl_multi_cleanup(c->multi); /* closes its sockets, and so their watches */
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    if (c->is_looking) {
        uv_cancel((uv_req_t *)&c->lookup);
    }
}

/* ---- What a call came to ---- */

static void report(struct hg_webhook_call *call, struct hg_webhook_result *result)
{
    struct hg_webhook_client *c = call->client;
    result->took_ms = hg_clock_ms() - call->started_ms;
    c->done(c->ctx, call->id, result);
    free_call(call);
}

static void report_failure(struct hg_webhook_call *call, enum hg_webhook_outcome outcome,
                           const char *error)
{
    struct hg_webhook_result result = {.outcome = outcome, .error = error};
    report(call, &result);
}

static const char *error_of(const struct hg_webhook_call *call, CURLcode code)
{
    return call->is_head_overlong   ? "the answer's head is larger than 64 KiB"
           : call->error[0] != '\0' ? call->error
                                    : curl_easy_strerror(code);
}

static void finish(struct hg_webhook_call *call, CURLcode code)
{
    struct hg_webhook_result result = {.outcome = HG_WEBHOOK_ANSWERED};
    long status = 0;
    curl_off_t retry_after_s = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(call->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    curl_multi_remove_handle(call->client->multi, call->easy);
    if (code == CURLE_OK || call->is_body_overlong) { /* a status is all that is wanted */
        result.status = (unsigned)status;
        result.retry_after_ms =
            retry_after_s <= 0 ? 0 : (uint64_t)retry_after_s * (uint64_t)MS_PER_S;
    } else {
        result.error = error_of(call, code);
        result.outcome = call->is_forbidden                 ? HG_WEBHOOK_FORBIDDEN
                         : code == CURLE_OPERATION_TIMEDOUT ? HG_WEBHOOK_TIMED_OUT
                                                            : HG_WEBHOOK_NO_ANSWER;
        call->client->names_ms = 0; /* perhaps it has moved */
    }
    report(call, &result);
}

static void take_finished(struct hg_webhook_client *c)
{
    int left;
    CURLMsg *message;
    while ((message = curl_multi_info_read(c->multi, &left)) != NULL) {
        struct hg_webhook_call *call = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
        finish(call, code); /* `message` is gone with this */
    }
}

/* ---- libcurl on the loop ---- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
    const struct watch *watch = poll->data;
    struct hg_webhook_client *c = watch->client;
    int running;
    int what = (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
               (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0) | (status < 0 ? CURL_CSELECT_ERR : 0);
    curl_multi_socket_action(c->multi, watch->socket, what, &running);
    take_finished(c);
}

static void on_timeout(uv_timer_t *timer)
{
    struct hg_webhook_client *c = timer->data;
    int running;
    curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    take_finished(c);
}

static int set_timer(CURLM *multi, long timeout_ms, void *ctx)
{
    struct hg_webhook_client *c = ctx;
    (void)multi;
    if (timeout_ms < 0) {
        uv_timer_stop(&c->timer);
    } else {
        uv_timer_start(&c->timer, on_timeout, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    struct hg_webhook_client *c = watch->client;
    hg_free(watch);
    handle_gone(c);
}

static struct watch *new_watch(struct hg_webhook_client *c, curl_socket_t s)
{
    struct watch *watch = hg_zalloc(sizeof(*watch));
    if (watch == NULL || uv_poll_init(&c->worker->loop, &watch->poll, s) != 0) {
        hg_free(watch);
        return NULL;
    }
    watch->client = c;
    watch->socket = s;
    watch->poll.data = watch;
    c->handles_n++;
    curl_multi_assign(c->multi, s, watch);
    return watch;
}

static int watch_socket(CURL *easy, curl_socket_t s, int what, void *ctx, void *socket_ctx)
{
    struct hg_webhook_client *c = ctx;
    struct watch *watch = socket_ctx;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL) {
            uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
            curl_multi_assign(c->multi, s, NULL);
        }
        return 0;
    }
    if (watch == NULL && (watch = new_watch(c, s)) == NULL) {
        return -1; /* ends what is under way, with an error each */
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    uv_poll_start(&watch->poll, events, on_poll);
    return 0;
}

/* ---- One transfer ---- */

static bool is_allowed(const struct hg_webhook_client *c, const struct sockaddr *address)
{
    struct hg_inet inet;
    return hg_inet_of(address, &inet) && hg_webhook_spec_allows(c->spec, &inet);
}

static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct hg_webhook_call *call = ctx;
    (void)purpose;
    if (!is_allowed(call->client, &address->addr)) {
        call->is_forbidden = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t on_head(char *p, size_t one, size_t n, void *ctx)
{
    struct hg_webhook_call *call = ctx;
    (void)p;
    (void)one;
    call->head_bytes += n;
    call->is_head_overlong = call->head_bytes > HEAD_MAX_BYTES;
    return call->is_head_overlong ? 0 : n;
}

static size_t on_body(char *p, size_t one, size_t n, void *ctx)
{
    struct hg_webhook_call *call = ctx;
    (void)p;
    (void)one;
    call->answer_bytes += n;
    call->is_body_overlong = call->answer_bytes > call->client->spec->max_answer_bytes;
    return call->is_body_overlong ? 0 : n;
}

static bool set_tls(CURL *easy, const struct hg_webhook_spec *spec)
{
    CURLcode code = CURLE_OK;
    if (spec->ca != NULL) {
        code = curl_easy_setopt(easy, CURLOPT_CAINFO, spec->ca);
    }
    if (code == CURLE_OK && spec->cert != NULL) {
        code = curl_easy_setopt(easy, CURLOPT_SSLCERT, spec->cert);
        code = code == CURLE_OK ? curl_easy_setopt(easy, CURLOPT_SSLKEY, spec->key) : code;
    }
    return code == CURLE_OK;
}

static bool set_options(struct hg_webhook_call *call)
{
    const struct hg_webhook_spec *spec = call->client->spec;
    CURL *easy = call->easy;
    /* Constants of the right type do not fail; what is copied may. */
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->fields);
    return curl_easy_setopt(easy, CURLOPT_URL, spec->url) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_USERAGENT, "headgate/" HG_VERSION) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK && set_tls(easy, spec);
}

/* libcurl asks nobody about the host: it is told. */
static bool set_resolve(struct hg_webhook_call *call)
{
    struct hg_webhook_client *c = call->client;
    struct hg_writer entry = {0};
    if (c->is_literal) {
        return true;
    }
    hg_writer_printf(&entry, "%s:%u:", c->spec->host, c->spec->port);
    hg_writer_bytes(&entry, hg_writer_view(&c->names));
    hg_writer_u8(&entry, '\0');
    if (!entry.failed) {
        call->resolve = curl_slist_append(NULL, (const char *)hg_writer_view(&entry).p);
    }
    hg_writer_close(&entry);
    return call->resolve != NULL &&
           curl_easy_setopt(call->easy, CURLOPT_RESOLVE, call->resolve) == CURLE_OK;
}

/* Addresses are known. False when there is no memory. */
static bool start(struct hg_webhook_call *call)
{
    struct hg_webhook_client *c = call->client;
    uint64_t gone_ms = hg_clock_ms() - call->started_ms;
    uint64_t left_ms = c->spec->timeout_ms > gone_ms ? c->spec->timeout_ms - gone_ms : 1;
    hg_timer_stop(&call->limit);
    hg_list_remove(&call->link);
    hg_list_add_last(&c->active, &call->link);
    curl_easy_setopt(call->easy, CURLOPT_TIMEOUT_MS, (long)left_ms);
    curl_easy_setopt(call->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)left_ms);
    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.n);
    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS,
                     call->body.n == 0 ? "" : (const char *)call->body.p);
    return set_resolve(call) && curl_multi_add_handle(c->multi, call->easy) == CURLM_OK;
}

/* ---- Names ---- */

static void add_name(struct hg_webhook_client *c, const struct sockaddr *address)
{
    char text[NI_MAXHOST];
    bool is_v6 = address->sa_family == AF_INET6;
    socklen_t n = is_v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(address, n, text, sizeof(text), NULL, 0, NI_NUMERICHOST) != 0) {
        return;
    }
    hg_writer_printf(&c->names, "%s%s%s%s", hg_writer_n(&c->names) == 0 ? "" : ",",
                     is_v6 ? "[" : "", text, is_v6 ? "]" : "");
}

static void fail_asleep(struct hg_webhook_client *c, enum hg_webhook_outcome outcome,
                        const char *error)
{
    struct hg_list calls;
    hg_list_init(&calls);
    hg_list_take_all(&calls, &c->asleep);
    while (!hg_list_is_empty(&calls)) {
        report_failure(HG_LIST_ENTRY(calls.next, struct hg_webhook_call, link), outcome, error);
    }
}

static void on_resolved(uv_getaddrinfo_t *lookup, int status, struct addrinfo *found)
{
    struct hg_webhook_client *c = lookup->data;
    c->is_looking = false;
    hg_writer_reset(&c->names);
    for (const struct addrinfo *a = found; a != NULL && !c->is_closing; a = a->ai_next) {
        if (is_allowed(c, a->ai_addr)) {
            add_name(c, a->ai_addr);
        }
    }
    uv_freeaddrinfo(found);
    if (c->is_closing) {
        /* nobody waits */
    } else if (status != 0 || c->names.failed) {
        fail_asleep(c, HG_WEBHOOK_NO_ANSWER,
                    status != 0 ? uv_strerror(status) : hg_status_text(HG_NO_MEMORY));
    } else if (hg_writer_n(&c->names) == 0) {
        fail_asleep(c, HG_WEBHOOK_FORBIDDEN, "the host has no address that is allowed");
    } else {
        c->names_ms = hg_clock_ms();
        while (!hg_list_is_empty(&c->asleep)) {
            struct hg_webhook_call *call =
                HG_LIST_ENTRY(c->asleep.next, struct hg_webhook_call, link);
            if (!start(call)) {
                report_failure(call, HG_WEBHOOK_NO_ANSWER, hg_status_text(HG_NO_MEMORY));
            }
        }
    }
    handle_gone(c);
}

static void look_up(struct hg_webhook_client *c)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    c->lookup.data = c;
    int error =
        uv_getaddrinfo(&c->worker->loop, &c->lookup, on_resolved, c->spec->host, NULL, &hints);
    if (error == 0) {
        c->is_looking = true;
        c->handles_n++;
    } /* else the calls' time runs out */
}

static void on_limit(struct hg_timer *timer)
{
    struct hg_webhook_call *call = HG_CONTAINER_OF(timer, struct hg_webhook_call, limit);
    report_failure(call, HG_WEBHOOK_TIMED_OUT, "the host's name was not resolved in time");
}

static bool has_names(const struct hg_webhook_client *c)
{
    return c->is_literal || (c->names_ms != 0 && hg_clock_ms() - c->names_ms < NAMES_FRESH_MS);
}

/* ---- Calls ---- */

static void add_line(struct hg_webhook_call *call, const char *line)
{
    struct curl_slist *fields = curl_slist_append(call->fields, line);
    call->has_failed |= fields == NULL;
    call->fields = fields == NULL ? call->fields : fields;
}

struct hg_webhook_call *hg_webhook_client_call(struct hg_webhook_client *c)
{
    struct hg_webhook_call *call = hg_zalloc(sizeof(*call));
    if (call == NULL) {
        return NULL;
    }
    call->client = c;
    hg_list_init(&call->link);
    hg_timer_init(&call->limit, on_limit);
    for (size_t i = 0; i < c->spec->headers_n; i++) {
        add_line(call, c->spec->headers[i]);
    }
    return call;
}

void hg_webhook_call_field(struct hg_webhook_call *call, struct hg_bytes name,
                           struct hg_bytes value)
{
    struct hg_writer line = {0};
    hg_writer_bytes(&line, name);
    hg_writer_str(&line, value.n == 0 ? ";" : ": ");
    hg_writer_bytes(&line, value);
    hg_writer_u8(&line, '\0');
    if (line.failed) {
        call->has_failed = true;
    } else {
        add_line(call, (const char *)hg_writer_view(&line).p);
    }
    hg_writer_close(&line);
}

void hg_webhook_call_drop(struct hg_webhook_call *call)
{
    free_call(call);
}

bool hg_webhook_call_send(struct hg_webhook_call *call, uint64_t id, struct hg_bytes body)
{
    struct hg_webhook_client *c = call->client;
    call->id = id;
    call->body = body;
    call->started_ms = hg_clock_ms();
    add_line(call, "Expect:"); /* the body goes out at once */
    add_line(call, "Accept:");
    call->easy = curl_easy_init();
    if (call->has_failed || call->easy == NULL || !set_options(call) ||
        (has_names(c) && !start(call))) {
        free_call(call);
        return false;
    }
    if (!hg_list_is_empty(&call->link)) { /* it has started */
        return true;
    }
    hg_list_add_last(&c->asleep, &call->link);
    hg_worker_timer(c->worker, &call->limit, c->spec->timeout_ms);
    if (!c->is_looking) {
        look_up(c);
    }
    return true;
}

/* ---- The beginning ---- */

bool hg_webhook_client_prepare(void)
{
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

void hg_webhook_client_release(void)
{
    curl_global_cleanup();
}

static bool open_multi(struct hg_webhook_client *c)
{
    c->multi = curl_multi_init();
    if (c->multi == NULL) {
        return false;
    }
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)c->spec->concurrency);
    return true;
}

struct hg_webhook_client *hg_webhook_client_new(struct hg_worker *worker,
                                                const struct hg_webhook_spec *spec,
                                                hg_webhook_done_fn *done, void *ctx)
{
    struct hg_inet address;
    struct hg_webhook_client *c = hg_zalloc(sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    *c = (struct hg_webhook_client){.worker = worker, .spec = spec, .done = done, .ctx = ctx};
    c->is_literal = hg_inet_parse(spec->host, &address);
    hg_list_init(&c->asleep);
    hg_list_init(&c->active);
    if (!open_multi(c)) {
        hg_free(c);
        return NULL;
    }
    uv_timer_init(&worker->loop, &c->timer);
    c->timer.data = c;
    c->handles_n = 1;
    return c;
}
