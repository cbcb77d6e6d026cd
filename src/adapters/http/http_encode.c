/* SPDX-License-Identifier: Apache-2.0 */
/* Writes status lines, fields, dates and problem bodies. */
#include "adapters/http/http_encode.h"

#include <time.h>

enum { DATE_BYTES = sizeof("Sun, 06 Nov 1994 08:49:37 GMT") - 1 };

static const struct {
    unsigned status;
    const char *phrase;
} phrases[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {202, "Accepted"},
    {204, "No Content"},
    {207, "Multi-Status"},
    {301, "Moved Permanently"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

const char *hg_http_phrase(unsigned status)
{
    for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++) {
        if (phrases[i].status == status) {
            return phrases[i].phrase;
        }
    }
    return "";
}

static void put_two(uint8_t *p, int n)
{
    p[0] = (uint8_t)('0' + n / 10 % 10);
    p[1] = (uint8_t)('0' + n % 10);
}

void hg_http_write_date(struct hg_writer *w, uint64_t wall_ms)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t at = (time_t)(wall_ms / 1000);
    struct tm t;
    uint8_t *p = hg_writer_reserve(w, DATE_BYTES);
    if (p == NULL || gmtime_r(&at, &t) == NULL) {
        return;
    }
    memcpy(p, "Sun, 00 Jan 0000 00:00:00 GMT",
           DATE_BYTES); /* printf is slow, and each answer has one */
    memcpy(p, days[t.tm_wday], 3);
    put_two(p + 5, t.tm_mday);
    memcpy(p + 8, months[t.tm_mon], 3);
    put_two(p + 12, (t.tm_year + 1900) / 100);
    put_two(p + 14, (t.tm_year + 1900) % 100);
    put_two(p + 17, t.tm_hour);
    put_two(p + 20, t.tm_min);
    put_two(p + 23, t.tm_sec);
    hg_writer_commit(w, DATE_BYTES);
}

void hg_http_write_status(struct hg_writer *w, unsigned status, uint64_t wall_ms)
{
    hg_writer_str(w, "HTTP/1.1 ");
    hg_writer_dec(w, status);
    hg_writer_u8(w, ' ');
    hg_writer_str(w, hg_http_phrase(status));
    hg_writer_str(w, "\r\nDate: ");
    hg_http_write_date(w, wall_ms);
    hg_writer_str(w, "\r\n");
}

void hg_http_write_field(struct hg_writer *w, const char *name, struct hg_bytes value)
{
    hg_writer_str(w, name);
    hg_writer_str(w, ": ");
    uint8_t *p = hg_writer_reserve(w, value.n);
    if (p != NULL) {
        for (size_t i = 0; i < value.n; i++) {
            p[i] = value.p[i] < 0x20 || value.p[i] == 0x7f ? ' ' : value.p[i];
        }
        hg_writer_commit(w, value.n);
    }
    hg_writer_str(w, "\r\n");
}

void hg_http_write_problem(struct hg_writer *w, unsigned status, struct hg_bytes detail,
                           const char *code)
{
    hg_writer_printf(w, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%u,\"detail\":\"",
                     hg_http_phrase(status), status);
    hg_writer_json(w, detail);
    if (code != NULL) {
        hg_writer_printf(w, "\",\"code\":\"%s", code);
    }
    hg_writer_str(w, "\"}\n");
}
