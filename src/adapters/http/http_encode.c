/* SPDX-License-Identifier: Apache-2.0 */
/* Writes status lines, fields, dates and problem bodies. */
#include "adapters/http/http_encode.h"

#include "base/eights.h"

#include <stdio.h>
#include <time.h>

enum { SECOND_MS = 1000 };

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

static void write_date(struct hg_http_date *date, time_t at)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm t = {0};
    (void)gmtime_r(&at, &t);
    (void)snprintf(date->text, sizeof(date->text), "%s, %02u %s %04u %02u:%02u:%02u GMT",
                   days[t.tm_wday], (unsigned)t.tm_mday % 100, months[t.tm_mon],
                   (unsigned)(t.tm_year + 1900) % 10000, (unsigned)t.tm_hour % 100,
                   (unsigned)t.tm_min % 100, (unsigned)t.tm_sec % 100);
}

struct hg_bytes hg_http_date(struct hg_http_date *date, uint64_t wall_ms)
{
    if (wall_ms >= date->until_ms || date->until_ms - wall_ms > SECOND_MS) {
        write_date(date, (time_t)(wall_ms / SECOND_MS));
        date->until_ms = wall_ms - wall_ms % SECOND_MS + SECOND_MS;
    }
    return hg_bytes(date->text, sizeof(date->text) - 1);
}

void hg_http_write_status(struct hg_writer *w, unsigned status, struct hg_bytes date)
{
    hg_writer_str(w, "HTTP/1.1 ");
    hg_writer_dec(w, status);
    hg_writer_u8(w, ' ');
    hg_writer_str(w, hg_http_phrase(status));
    hg_writer_str(w, "\r\nDate: ");
    hg_writer_bytes(w, date);
    hg_writer_str(w, "\r\n");
}

void hg_http_write_field(struct hg_writer *w, const char *name, struct hg_bytes value)
{
    hg_writer_str(w, name);
    hg_writer_str(w, ": ");
    uint8_t *p = hg_writer_reserve(w, value.n);
    if (p != NULL) {
        size_t i = 0;
        for (; value.n - i >= 8 && hg_eight_controls(hg_eight(value.p + i)) == 0; i += 8) {
            memcpy(p + i, value.p + i, 8);
        }
        for (; i < value.n; i++) {
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
