/* SPDX-License-Identifier: Apache-2.0 */
/* toml++ behind hg_config_toml_parse: the only C++ of Headgate. No exception leaves this file. */
#include "core/config_tree.h"

#include <toml++/toml.h>

#include <algorithm>
#include <new>
#include <vector>

namespace
{

/* A value that TOML allows and C strings do not. */
struct unfit {
    toml::source_region where;
};

struct builder {
    struct hg_config_arena *arena;
    const char *source;

    [[nodiscard]] hg_config_at at(const toml::source_region &region) const
    {
        return {source, region.begin.line, region.begin.column};
    }

    template <typename T> T *checked(T *p) const
    {
        if (p == nullptr) {
            throw std::bad_alloc();
        }
        return p;
    }

    char *copy(std::string_view s, const toml::source_region &where) const
    {
        if (s.find('\0') != std::string_view::npos) {
            throw unfit{where};
        }
        return checked(hg_config_arena_copy(arena, s.data(), s.size()));
    }

    hg_config_node *children_of(const toml::table &table) const
    {
        std::vector<std::pair<const toml::key *, const toml::node *>> entries;
        for (auto &&[key, value] : table) {
            entries.emplace_back(&key, &value);
        }
        /* toml++ sorts by name; a person reads errors in the order of the file. */
        std::stable_sort(entries.begin(), entries.end(), [](const auto &a, const auto &b) {
            return a.first->source().begin < b.first->source().begin;
        });
        hg_config_node *first = nullptr;
        hg_config_node **link = &first;
        for (const auto &[key, value] : entries) {
            *link = make(*value);
            (*link)->key = copy(key->str(), key->source());
            (*link)->key_at = at(key->source());
            link = &(*link)->next;
        }
        return first;
    }

    hg_config_node *children_of(const toml::array &array) const
    {
        hg_config_node *first = nullptr;
        hg_config_node **link = &first;
        for (auto &&element : array) {
            *link = make(element);
            link = &(*link)->next;
        }
        return first;
    }

    hg_config_node *make(const toml::node &value) const
    {
        auto *n = checked(
            static_cast<hg_config_node *>(hg_config_arena_get(arena, sizeof(hg_config_node))));
        n->at = n->key_at = at(value.source());
        if (const auto *table = value.as_table()) {
            n->kind = HG_CONFIG_TABLE;
            n->u.first = children_of(*table);
        } else if (const auto *array = value.as_array()) {
            n->kind = HG_CONFIG_ARRAY;
            n->u.first = children_of(*array);
        } else if (const auto *string = value.as_string()) {
            n->kind = HG_CONFIG_STRING;
            n->u.string = {copy(string->get(), value.source()), string->get().size()};
        } else if (const auto *integer = value.as_integer()) {
            n->kind = HG_CONFIG_INT;
            n->u.i = integer->get();
        } else if (const auto *floating = value.as_floating_point()) {
            n->kind = HG_CONFIG_FLOAT;
            n->u.d = floating->get();
        } else if (const auto *boolean = value.as_boolean()) {
            n->kind = HG_CONFIG_BOOL;
            n->u.b = boolean->get();
        } else {
            n->kind = HG_CONFIG_DATE;
        }
        return n;
    }
};

} // namespace

extern "C" struct hg_config_node *hg_config_toml_parse(struct hg_config_arena *a, const char *text,
                                                       size_t n, const char *source,
                                                       struct hg_config_syntax_error *err_out)
{
    const builder b{a, source};
    try {
        try {
            const toml::table root = toml::parse(std::string_view(text, n));
            return b.make(root);
        } catch (const toml::parse_error &e) {
            err_out->at = b.at(e.source());
            err_out->text = b.copy(e.description(), e.source());
        } catch (const unfit &e) {
            err_out->at = b.at(e.where);
            err_out->text = "a NUL character cannot be part of a string";
        }
    } catch (...) {
        a->is_exhausted = true; /* only std::bad_alloc is left */
    }
    return nullptr;
}
