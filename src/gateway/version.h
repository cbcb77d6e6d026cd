/* SPDX-License-Identifier: Apache-2.0 */
/* `headgate version`. */
#ifndef HG_VERSION_H
#define HG_VERSION_H

#include "base/buf.h"

/* Appends Headgate's version, the libraries as they are at run time (a note where only the build knows), and how it was built. */
void hg_version_write(struct hg_writer *out);

#endif
