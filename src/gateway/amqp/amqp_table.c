/* SPDX-License-Identifier: Apache-2.0 */
/* Field tables: checked before librabbitmq sees them, read into headers, made from headers. */
#include "amqp/amqp_table.h"

#include "base/base64.h"
#include "message/topic.h"

#include <jansson.h>
#include <math.h>

/* -- the check -------------------------------------------------------------------------------- */

/* Takes a length of 32 bits and as many bytes off *in. */
static bool take_long(struct hg_bytes *in, struct hg_bytes *out)
{
    if (in->n < 4) {
        return false;
    }
    size_t n = (size_t)in->p[0] << 24 | (size_t)in->p[1] << 16 | (size_t)in->p[2] << 8 | in->p[3];
    *in = hg_bytes_skip(*in, 4);
    if (in->n < n) {
        return false;
    }
    *out = hg_bytes(in->p, n);
    *in = hg_bytes_skip(*in, n);
    return true;
}

/* Bytes of a value of fixed size; -1 for every other type. */
static int fixed_bytes(uint8_t kind)
{
    switch (kind) {
    case AMQP_FIELD_KIND_VOID: return 0;
    case AMQP_FIELD_KIND_BOOLEAN:
    case AMQP_FIELD_KIND_I8:
    case AMQP_FIELD_KIND_U8: return 1;
    case AMQP_FIELD_KIND_I16:
    case AMQP_FIELD_KIND_U16: return 2;
    case AMQP_FIELD_KIND_I32:
    case AMQP_FIELD_KIND_U32:
    case AMQP_FIELD_KIND_F32: return 4;
    case AMQP_FIELD_KIND_DECIMAL: return 5;
    case AMQP_FIELD_KIND_I64:
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_F64:
    case AMQP_FIELD_KIND_TIMESTAMP: return 8;
    default: return -1;
    }
}

static enum hg_amqp_table_shape check_fields(struct hg_bytes in, bool has_names, int depth);

static enum hg_amqp_table_shape check_value(struct hg_bytes *in, int depth)
{
    if (in->n == 0) {
        return HG_AMQP_TABLE_BROKEN;
    }
    uint8_t kind = in->p[0];
    *in = hg_bytes_skip(*in, 1);
    int fixed = fixed_bytes(kind);
    if (fixed >= 0) {
        if (in->n < (size_t)fixed) {
            return HG_AMQP_TABLE_BROKEN;
        }
        *in = hg_bytes_skip(*in, (size_t)fixed);
        return HG_AMQP_TABLE_SOUND;
    }
    struct hg_bytes inner;
    if (!take_long(in, &inner)) {
        return HG_AMQP_TABLE_BROKEN;
    }
    switch (kind) {
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES: return HG_AMQP_TABLE_SOUND;
    case AMQP_FIELD_KIND_TABLE: return check_fields(inner, true, depth + 1);
    case AMQP_FIELD_KIND_ARRAY: return check_fields(inner, false, depth + 1);
    default: return HG_AMQP_TABLE_BROKEN;
    }
}

/* The inside of a table (has_names) or an array. */
static enum hg_amqp_table_shape check_fields(struct hg_bytes in, bool has_names, int depth)
{
    if (depth > HG_AMQP_TABLE_DEPTH) {
        return HG_AMQP_TABLE_DEEP;
    }
    enum hg_amqp_table_shape worst = HG_AMQP_TABLE_SOUND;
    while (in.n > 0) {
        if (has_names) {
            size_t name_n = (size_t)1 + in.p[0];
            if (in.n < name_n) {
                return HG_AMQP_TABLE_BROKEN;
            }
            in = hg_bytes_skip(in, name_n);
        }
        enum hg_amqp_table_shape shape = check_value(&in, depth);
        if (shape > worst) {
            worst = shape;
        }
        if (worst == HG_AMQP_TABLE_BROKEN) {
            break;
        }
    }
    return worst;
}

enum hg_amqp_table_shape hg_amqp_table_check(struct hg_bytes in, size_t *n_out)
{
    struct hg_bytes rest = in;
    struct hg_bytes inner;
    *n_out = 0;
    if (!take_long(&rest, &inner)) {
        return HG_AMQP_TABLE_BROKEN;
    }
    *n_out = in.n - rest.n;
    return check_fields(inner, true, 1);
}

/* -- reading ---------------------------------------------------------------------------------- */

static double decimal_value(amqp_decimal_t decimal)
{
    double scale = 1;
    for (int i = 0; i < decimal.decimals; i++) {
        scale *= 10;
    }
    return (double)decimal.value / scale;
}

/* Every type but tables and arrays. */
static struct hg_value scalar_value(const amqp_field_value_t *field)
{
    const struct hg_bytes bytes = hg_amqp_view(field->value.bytes);
    switch (field->kind) {
    case AMQP_FIELD_KIND_BOOLEAN:
        return (struct hg_value){.kind = HG_VALUE_BOOL, .u.b = field->value.boolean != 0};
    case AMQP_FIELD_KIND_I8: return (struct hg_value){HG_VALUE_INT, .u.i = field->value.i8};
    case AMQP_FIELD_KIND_U8: return (struct hg_value){HG_VALUE_INT, .u.i = field->value.u8};
    case AMQP_FIELD_KIND_I16: return (struct hg_value){HG_VALUE_INT, .u.i = field->value.i16};
    case AMQP_FIELD_KIND_U16: return (struct hg_value){HG_VALUE_INT, .u.i = field->value.u16};
    case AMQP_FIELD_KIND_I32: return (struct hg_value){HG_VALUE_INT, .u.i = field->value.i32};
    case AMQP_FIELD_KIND_U32: return (struct hg_value){HG_VALUE_INT, .u.i = field->value.u32};
    case AMQP_FIELD_KIND_I64: return (struct hg_value){HG_VALUE_INT, .u.i = field->value.i64};
    case AMQP_FIELD_KIND_U64: /* those that do not fit never get here */
        return (struct hg_value){HG_VALUE_INT, .u.i = (int64_t)field->value.u64};
    case AMQP_FIELD_KIND_F32:
        return (struct hg_value){HG_VALUE_DOUBLE, .u.d = (double)field->value.f32};
    case AMQP_FIELD_KIND_F64: return (struct hg_value){HG_VALUE_DOUBLE, .u.d = field->value.f64};
    case AMQP_FIELD_KIND_DECIMAL:
        return (struct hg_value){HG_VALUE_DOUBLE, .u.d = decimal_value(field->value.decimal)};
    case AMQP_FIELD_KIND_TIMESTAMP:
        return (struct hg_value){HG_VALUE_TIMESTAMP, .u.timestamp_s = field->value.u64};
    case AMQP_FIELD_KIND_UTF8:
        return (struct hg_value){hg_utf8_is_valid(bytes) ? HG_VALUE_STRING : HG_VALUE_BINARY,
                                 .u.bytes = bytes};
    case AMQP_FIELD_KIND_BYTES: return (struct hg_value){HG_VALUE_BINARY, .u.bytes = bytes};
    default: return (struct hg_value){.kind = HG_VALUE_NULL};
    }
}

static bool is_nested(const amqp_field_value_t *field)
{
    return field->kind == AMQP_FIELD_KIND_TABLE || field->kind == AMQP_FIELD_KIND_ARRAY;
}

static bool is_past_int64(const amqp_field_value_t *field)
{
    return field->kind == AMQP_FIELD_KIND_U64 && field->value.u64 > INT64_MAX;
}

static void write_string(struct hg_writer *w, struct hg_bytes text)
{
    hg_writer_u8(w, '"');
    hg_writer_json(w, text);
    hg_writer_u8(w, '"');
}

static void write_double(struct hg_writer *w, const struct hg_value *value)
{
    if (!isfinite(value->u.d)) {
        hg_writer_str(w, "null");
        return;
    }
    size_t start = hg_writer_n(w);
    hg_value_write_text(w, value);
    struct hg_bytes text = hg_bytes_skip(hg_writer_view(w), w->failed ? 0 : start);
    if (hg_bytes_index(text, '.') == text.n && hg_bytes_index(text, 'e') == text.n) {
        hg_writer_str(w, ".0"); /* stays a double when it is parsed */
    }
}

static void write_scalar(struct hg_writer *w, const amqp_field_value_t *field)
{
    if (is_past_int64(field)) {
        hg_writer_dec(w, field->value.u64);
        return;
    }
    struct hg_value value = scalar_value(field);
    switch (value.kind) {
    case HG_VALUE_NULL: hg_writer_str(w, "null"); break;
    case HG_VALUE_DOUBLE: write_double(w, &value); break;
    case HG_VALUE_STRING: write_string(w, value.u.bytes); break;
    case HG_VALUE_BINARY:
        hg_writer_u8(w, '"');
        hg_base64_encode(w, value.u.bytes);
        hg_writer_u8(w, '"');
        break;
    default: hg_value_write_text(w, &value);
    }
}

/* Recursion is bounded by hg_amqp_table_check. */
static void write_field(struct hg_writer *w, const amqp_field_value_t *field)
{
    if (field->kind == AMQP_FIELD_KIND_TABLE) {
        const amqp_table_t *table = &field->value.table;
        hg_writer_u8(w, '{');
        for (int i = 0; i < table->num_entries; i++) {
            hg_writer_str(w, i == 0 ? "" : ",");
            write_string(w, hg_amqp_view(table->entries[i].key));
            hg_writer_u8(w, ':');
            write_field(w, &table->entries[i].value);
        }
        hg_writer_u8(w, '}');
    } else if (field->kind == AMQP_FIELD_KIND_ARRAY) {
        const amqp_array_t *array = &field->value.array;
        hg_writer_u8(w, '[');
        for (int i = 0; i < array->num_entries; i++) {
            hg_writer_str(w, i == 0 ? "" : ",");
            write_field(w, &array->entries[i]);
        }
        hg_writer_u8(w, ']');
    } else {
        write_scalar(w, field);
    }
}

bool hg_amqp_table_read(const amqp_table_t *table, amqp_pool_t *pool, struct hg_writer *json,
                        const struct hg_header **headers_out)
{
    size_t n = (size_t)table->num_entries;
    struct hg_header *headers = n == 0 ? NULL : amqp_pool_alloc(pool, n * sizeof *headers);
    if (n > 0 && headers == NULL) {
        return false;
    }
    hg_writer_reset(json);
    for (size_t i = 0; i < n; i++) {
        const amqp_field_value_t *field = &table->entries[i].value;
        size_t start = hg_writer_n(json);
        headers[i].name = hg_amqp_view(table->entries[i].key);
        if (!is_nested(field) && !is_past_int64(field)) {
            headers[i].value = scalar_value(field);
            continue;
        }
        write_field(json, field);
        headers[i].value.kind = is_nested(field) ? HG_VALUE_JSON : HG_VALUE_STRING;
        headers[i].value.u.bytes = hg_bytes(NULL, hg_writer_n(json) - start);
    }
    if (json->failed) {
        return false;
    }
    /* The text moved while it grew: only now do its slices have an address. */
    struct hg_bytes text = hg_writer_view(json);
    for (size_t i = 0; i < n; i++) {
        if (is_nested(&table->entries[i].value) || is_past_int64(&table->entries[i].value)) {
            headers[i].value.u.bytes.p = text.p;
            text = hg_bytes_skip(text, headers[i].value.u.bytes.n);
        }
    }
    *headers_out = headers;
    return true;
}

/* -- making ----------------------------------------------------------------------------------- */

/* *entries_out is NULL for none, as librabbitmq has it. */
static bool pool_array(amqp_pool_t *pool, size_t n, size_t bytes, void *entries_out)
{
    void *entries = n == 0 ? NULL : amqp_pool_alloc(pool, n * bytes);
    memcpy(entries_out, &entries, sizeof entries);
    return n == 0 || entries != NULL;
}

static bool pool_copy(amqp_pool_t *pool, struct hg_bytes b, amqp_bytes_t *out)
{
    void *p;
    if (!pool_array(pool, b.n, 1, &p)) {
        return false;
    }
    if (b.n > 0) {
        memcpy(p, b.p, b.n);
    }
    *out = (amqp_bytes_t){b.n, p};
    return true;
}

static enum hg_status field_of_json(amqp_pool_t *pool, const json_t *json, int depth,
                                    amqp_field_value_t *out);

static enum hg_status table_of_json(amqp_pool_t *pool, const json_t *json, int depth,
                                    amqp_table_t *out)
{
    out->num_entries = 0;
    if (!pool_array(pool, json_object_size(json), sizeof *out->entries, &out->entries)) {
        return HG_NO_MEMORY;
    }
    json_t *object = (json_t *)(uintptr_t)json; /* jansson iterates without const */
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        amqp_table_entry_t *entry = &out->entries[out->num_entries];
        struct hg_bytes key = hg_bytes_str(json_object_iter_key(at));
        if (key.n > UINT8_MAX) {
            return HG_BAD_PROPERTY;
        }
        if (!pool_copy(pool, key, &entry->key)) {
            return HG_NO_MEMORY;
        }
        enum hg_status status =
            field_of_json(pool, json_object_iter_value(at), depth, &entry->value);
        if (status != HG_OK) {
            return status;
        }
        out->num_entries++;
    }
    return HG_OK;
}

static enum hg_status array_of_json(amqp_pool_t *pool, const json_t *json, int depth,
                                    amqp_array_t *out)
{
    size_t n = json_array_size(json);
    out->num_entries = (int)n;
    if (!pool_array(pool, n, sizeof *out->entries, &out->entries)) {
        return HG_NO_MEMORY;
    }
    enum hg_status status = HG_OK;
    for (size_t i = 0; i < n && status == HG_OK; i++) {
        status = field_of_json(pool, json_array_get(json, i), depth, &out->entries[i]);
    }
    return status;
}

static enum hg_status field_of_json(amqp_pool_t *pool, const json_t *json, int depth,
                                    amqp_field_value_t *out)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        out->kind = AMQP_FIELD_KIND_TABLE;
        return depth >= HG_AMQP_TABLE_DEPTH
                   ? HG_BAD_PROPERTY
                   : table_of_json(pool, json, depth + 1, &out->value.table);
    case JSON_ARRAY:
        out->kind = AMQP_FIELD_KIND_ARRAY;
        return depth >= HG_AMQP_TABLE_DEPTH
                   ? HG_BAD_PROPERTY
                   : array_of_json(pool, json, depth + 1, &out->value.array);
    case JSON_STRING:
        out->kind = AMQP_FIELD_KIND_UTF8;
        return pool_copy(pool, hg_bytes(json_string_value(json), json_string_length(json)),
                         &out->value.bytes)
                   ? HG_OK
                   : HG_NO_MEMORY;
    case JSON_INTEGER:
        out->kind = AMQP_FIELD_KIND_I64;
        out->value.i64 = json_integer_value(json);
        return HG_OK;
    case JSON_REAL:
        out->kind = AMQP_FIELD_KIND_F64;
        out->value.f64 = json_real_value(json);
        return HG_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        out->kind = AMQP_FIELD_KIND_BOOLEAN;
        out->value.boolean = json_is_true(json);
        return HG_OK;
    case JSON_NULL: break;
    }
    out->kind = AMQP_FIELD_KIND_VOID;
    return HG_OK;
}

static enum hg_status field_of_text(amqp_pool_t *pool, struct hg_bytes text,
                                    amqp_field_value_t *out)
{
    json_error_t error;
    json_t *json = json_loadb((const char *)text.p, text.n, JSON_ALLOW_NUL, &error);
    if (json == NULL) {
        return json_error_code(&error) == json_error_out_of_memory ? HG_NO_MEMORY : HG_BAD_PROPERTY;
    }
    enum hg_status status = field_of_json(pool, json, 1, out);
    json_decref(json);
    return status;
}

static enum hg_status make_value(amqp_pool_t *pool, const struct hg_value *value,
                                 amqp_field_value_t *out)
{
    switch (value->kind) {
    case HG_VALUE_JSON: return field_of_text(pool, value->u.bytes, out);
    case HG_VALUE_BOOL:
        out->kind = AMQP_FIELD_KIND_BOOLEAN;
        out->value.boolean = value->u.b;
        break;
    case HG_VALUE_INT:
        out->kind = AMQP_FIELD_KIND_I64;
        out->value.i64 = value->u.i;
        break;
    case HG_VALUE_DOUBLE:
        out->kind = AMQP_FIELD_KIND_F64;
        out->value.f64 = value->u.d;
        break;
    case HG_VALUE_TIMESTAMP:
        out->kind = AMQP_FIELD_KIND_TIMESTAMP;
        out->value.u64 = value->u.timestamp_s;
        break;
    case HG_VALUE_STRING:
    case HG_VALUE_BINARY:
        out->kind = value->kind == HG_VALUE_STRING ? AMQP_FIELD_KIND_UTF8 : AMQP_FIELD_KIND_BYTES;
        out->value.bytes = hg_amqp_bytes(value->u.bytes);
        break;
    case HG_VALUE_NULL: out->kind = AMQP_FIELD_KIND_VOID; break;
    }
    return HG_OK;
}

enum hg_status hg_amqp_table_make(amqp_pool_t *pool, const struct hg_header *headers, size_t n,
                                  amqp_table_t *out)
{
    *out = amqp_empty_table;
    amqp_table_entry_t *entries;
    if (n > INT32_MAX || !pool_array(pool, n, sizeof *entries, &entries)) {
        return HG_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        if (headers[i].name.n > UINT8_MAX) {
            return HG_BAD_PROPERTY;
        }
        entries[i].key = hg_amqp_bytes(headers[i].name);
        enum hg_status status = make_value(pool, &headers[i].value, &entries[i].value);
        if (status != HG_OK) {
            return status;
        }
    }
    *out = (amqp_table_t){(int)n, entries};
    return HG_OK;
}
