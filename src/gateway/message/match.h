/* SPDX-License-Identifier: Apache-2.0 */
/* What a headers exchange is to match by, as clients of text protocols say it: the words of x-match,
 * and values with their type before them. */
#ifndef HG_MESSAGE_MATCH_H
#define HG_MESSAGE_MATCH_H

#include "message/message.h"

enum { HG_MATCH_NAME_MAX = 255 };

/* all, any, all-with-x or any-with-x. */
bool hg_match_is_word(struct hg_bytes word);
/* "text", or after int:, bool: or string: what that says; RabbitMQ matches types as well as values. A
 * text is borrowed. False: not a number, nor true or false. */
bool hg_match_read_value(struct hg_bytes text, struct hg_value *out);

#endif
