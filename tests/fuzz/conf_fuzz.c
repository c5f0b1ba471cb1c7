/* Configuration files in both dialects (ipc/base/conf), and the lists of addresses in them. What was read from
 * .properties is the same when it is written and read again. */
#include "base/address_list.h"
#include "base/conf.h"
#include "fuzz.h"

static void put_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || strchr(" \t\f=:#!\\", *text))
            fprintf(out, "\\u%04x", (unsigned char)*text);
        else
            fputc(*text, out);
    }
}

static void check_again(struct conf *conf)
{
    char *text = NULL, *error = NULL;
    size_t size = 0;
    struct conf *again = NULL;
    FILE *out = open_memstream(&text, &size);
    FUZZ_CHECK(out);
    fputs("#\n", out); /* what looks like a byte order mark is none here */
    for (size_t i = 0; i < conf->count; i++) {
        put_escaped(out, conf->entries[i].key);
        fputc('=', out);
        put_escaped(out, conf->entries[i].value);
        fputc('\n', out);
    }
    fclose(out);
    FUZZ_CHECK(conf_read_text("again", text, size, CONF_PROPERTIES, &again, &error) == 0);
    FUZZ_CHECK(again->count == conf->count);
    for (size_t i = 0; i < conf->count; i++)
        FUZZ_CHECK(strcmp(conf->entries[i].key, again->entries[i].key) == 0 &&
                   strcmp(conf->entries[i].value, again->entries[i].value) == 0);
    conf_free(again);
    free(text);
}

static void check(const uint8_t *data, size_t size, enum conf_dialect dialect)
{
    static const char *const names[] = {"brokerName", "brokerId", "listenPort", NULL};
    struct conf *conf = NULL;
    char *error = NULL;
    int r = conf_read_text("fuzz", (const char *)data, size, dialect, &conf, &error);
    FUZZ_CHECK(r == 0 || error);
    bool is_small = true;
    for (size_t i = 0; r == 0 && i < conf->count; i++) {
        struct conf_entry *entry = &conf->entries[i];
        int64_t number;
        bool truth;
        FUZZ_CHECK(entry->section && entry->key && entry->value && entry->line > 0);
        FUZZ_CHECK(conf_get(conf, entry->section, entry->key));
        conf_get_i64(conf, entry->section, entry->key, 1, &number);
        conf_get_bool(conf, entry->section, entry->key, true, &truth);
        conf_nearest(entry->key, names);
        struct address_list list;
        (void)address_list_parse(entry->value, &list);
        is_small = is_small && strlen(entry->key) + strlen(entry->value) < 8192 && entry->key[0];
    }
    if (r == 0 && dialect == CONF_PROPERTIES && is_small)
        check_again(conf);
    conf_free(conf);
    free(error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 16) /* every key is looked for among all others here */
        return 0;
    uint8_t *copy = fuzz_copy(data, size);
    check(copy, size, CONF_PROPERTIES);
    check(copy, size, CONF_INI);
    free(copy);
    return 0;
}
