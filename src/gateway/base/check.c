/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a process that found a bug of its own. */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void hg_check_failed(const char *expression, const char *file, int line)
{
    (void)fprintf(stderr, "headgate: %s:%d: check failed: %s\n", file, line, expression);
    abort();
}
