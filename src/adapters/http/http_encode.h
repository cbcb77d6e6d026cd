/* SPDX-License-Identifier: Apache-2.0 */
/* Response heads (RFC 9112 section 4) and problem bodies (RFC 9457). */
#ifndef HG_HTTP_ENCODE_H
#define HG_HTTP_ENCODE_H

#include "base/buf.h"

#include <stdint.h>

/* "Not Found"; "" for a status nobody sends. */
const char *hg_http_phrase(unsigned status);
/* The text of one second; zero-initialise to start. */
struct hg_http_date {
    uint64_t until_ms; /* it is the text of the second before this */
    char text[sizeof("Sun, 06 Nov 1994 08:49:37 GMT")];
};
/* That text (RFC 9110 section 5.6.7), borrowed until the next call, written anew when the second is
 * another one. */
struct hg_bytes hg_http_date(struct hg_http_date *date, uint64_t wall_ms);
/* "HTTP/1.1 404 Not Found" and Date. Fields follow, then the caller ends the head with an empty
 * line. */
void hg_http_write_status(struct hg_writer *w, unsigned status, struct hg_bytes date);
/* "Name: value"; a byte that could end the line becomes a blank, so that no value writes a header
 * of its own. */
void hg_http_write_field(struct hg_writer *w, const char *name, struct hg_bytes value);
/* {"type","title","status","detail","code"} (RFC 9457 section 3); code may be NULL. */
void hg_http_write_problem(struct hg_writer *w, unsigned status, struct hg_bytes detail,
                           const char *code);

#endif
