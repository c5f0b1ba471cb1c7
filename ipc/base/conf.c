/* The reader for both configuration dialects. A text becomes logical lines (for .properties with continuations joined),
 * a logical line a section, a key with its value, or nothing. The first error ends it, told with file and line. Any
 * process; no state; a failed allocation is -ENOMEM. */
#include "base/conf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
    CONF_LINE_MAX = 65536,
    CONF_FILE_MAX = 16 * 1024 * 1024,
};

struct conf_parser {
    struct conf *conf;
    enum conf_dialect dialect;
    const char *pos, *end; /* what is left of the text */
    int line;              /* of the physical line read last, from 1 */
    int start_line;        /* where the logical line began */
    char *buffer;          /* the logical line, CONF_LINE_MAX + 1 bytes */
    size_t size;
    char *section;
    size_t capacity;
    char **ret_error;
};

__attribute__((format(printf, 3, 4))) static int conf_fail(struct conf_parser *p, int line, const char *format, ...)
{
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (p->ret_error && asprintf(p->ret_error, "%s:%d: %s", p->conf->file, line, what) < 0)
        *p->ret_error = NULL;
    return -EINVAL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\f';
}

/* One physical line without its end (\n, \r\n or \r). 1, or 0 at the end of the text. */
static int physical_line(struct conf_parser *p, const char **ret_line, size_t *ret_size)
{
    if (p->pos == p->end)
        return 0;
    const char *start = p->pos, *stop = start;
    while (stop < p->end && *stop != '\n' && *stop != '\r')
        stop++;
    p->pos = stop;
    if (p->pos < p->end)
        p->pos += p->pos[0] == '\r' && p->pos + 1 < p->end && p->pos[1] == '\n' ? 2 : 1;
    p->line++;
    *ret_line = start;
    *ret_size = (size_t)(stop - start);
    return 1;
}

static bool ends_with_continuation(const char *line, size_t size)
{
    size_t backslashes = 0;
    while (backslashes < size && line[size - 1 - backslashes] == '\\')
        backslashes++;
    return backslashes % 2 == 1;
}

static bool is_comment(const struct conf_parser *p, const char *line, size_t size)
{
    return size > 0 && (line[0] == '#' || line[0] == (p->dialect == CONF_INI ? ';' : '!'));
}

/* The next logical line that is neither empty nor a comment, into p->buffer. 1, 0 at the end, -EINVAL. */
static int logical_line(struct conf_parser *p)
{
    bool more = false;
    p->size = 0;
    for (;;) {
        const char *line;
        size_t size;
        if (!physical_line(p, &line, &size))
            return p->size > 0;
        while (size > 0 && is_blank(*line))
            line++, size--;
        if (!more) {
            if (size == 0 || is_comment(p, line, size))
                continue;
            p->start_line = p->line;
        }
        if (p->size + size > CONF_LINE_MAX)
            return conf_fail(p, p->line, "the line is longer than %d bytes", CONF_LINE_MAX);
        if (memchr(line, '\0', size))
            return conf_fail(p, p->line, "the line holds a NUL byte");
        more = p->dialect == CONF_PROPERTIES && ends_with_continuation(line, size);
        if (more)
            size--;
        memcpy(p->buffer + p->size, line, size);
        p->size += size;
        p->buffer[p->size] = '\0';
        if (!more && p->size > 0)
            return 1;
    }
}

static int add_entry(struct conf_parser *p, char *key, char *value)
{
    struct conf *conf = p->conf;
    if (conf->count == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 32;
        struct conf_entry *entries = reallocarray(conf->entries, capacity, sizeof *entries);
        if (!entries)
            return -ENOMEM;
        conf->entries = entries;
        p->capacity = capacity;
    }
    struct conf_entry entry = {strdup(p->section), strdup(key), strdup(value), p->start_line, false};
    if (!entry.section || !entry.key || !entry.value) {
        free(entry.section);
        free(entry.key);
        free(entry.value);
        return -ENOMEM;
    }
    conf->entries[conf->count++] = entry;
    return 0;
}

static char *trim(char *text)
{
    while (is_blank(*text))
        text++;
    size_t size = strlen(text);
    while (size > 0 && is_blank(text[size - 1]))
        size--;
    text[size] = '\0';
    return text;
}

static int ini_section(struct conf_parser *p, char *line)
{
    char *close = strchr(line, ']');
    if (!close)
        return conf_fail(p, p->start_line, "the section has no ']'");
    *close = '\0';
    char *rest = trim(close + 1);
    if (*rest && *rest != '#' && *rest != ';')
        return conf_fail(p, p->start_line, "unexpected text behind ']': %.60s", rest);
    char *name = trim(line + 1);
    if (!*name)
        return conf_fail(p, p->start_line, "the section has no name");
    char *section = strdup(name);
    if (!section)
        return -ENOMEM;
    free(p->section);
    p->section = section;
    char none[] = "";
    return add_entry(p, none, none);
}

static int ini_line(struct conf_parser *p)
{
    char *line = trim(p->buffer);
    if (*line == '[')
        return ini_section(p, line);
    char *equals = strchr(line, '=');
    if (!equals)
        return conf_fail(p, p->start_line, "expected 'key = value' or '[section]': %.60s", line);
    *equals = '\0';
    char *key = trim(line);
    if (!*key)
        return conf_fail(p, p->start_line, "there is no key before '='");
    return add_entry(p, key, trim(equals + 1));
}

/* Four hexadecimal digits; -1 if they are not. Never reads behind the terminating NUL. */
static int unicode_unit(const char *text)
{
    int unit = 0;
    for (int i = 0; i < 4; i++) {
        if (!isxdigit((unsigned char)text[i]))
            return -1;
        int c = tolower((unsigned char)text[i]);
        unit = unit * 16 + (c >= 'a' ? c - 'a' + 10 : c - '0');
    }
    return unit;
}

static char *put_utf8(char *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

/* `in` stands behind "\u". A pair of surrogates is one character; a lone one cannot be text. Result is never longer
 * than the escape, so that unescaping in place works. */
static int unescape_unicode(struct conf_parser *p, char **in, char **out)
{
    int unit = unicode_unit(*in);
    if (unit <= 0)
        return conf_fail(p, p->start_line, unit < 0 ? "\\u needs four hexadecimal digits" : "\\u0000 is not text");
    *in += 4;
    uint32_t code = (uint32_t)unit;
    if (code >= 0xD800 && code <= 0xDBFF) {
        int low = (*in)[0] == '\\' && (*in)[1] == 'u' ? unicode_unit(*in + 2) : -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return conf_fail(p, p->start_line, "\\u%04X is half of a surrogate pair", code);
        *in += 6;
        code = 0x10000 + ((code - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
    } else if (code >= 0xDC00 && code <= 0xDFFF) {
        return conf_fail(p, p->start_line, "\\u%04X is half of a surrogate pair", code);
    }
    *out = put_utf8(*out, code);
    return 0;
}

static int unescape(struct conf_parser *p, char *text)
{
    char *in = text, *out = text;
    while (*in) {
        if (*in != '\\') {
            *out++ = *in++;
            continue;
        }
        in++;
        char c = *in;
        if (c)
            in++;
        if (c == 'u') {
            int r = unescape_unicode(p, &in, &out);
            if (r < 0)
                return r;
        } else if (c) {
            *out++ = (char)(c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 'f' ? '\f' : c);
        }
    }
    *out = '\0';
    return 0;
}

/* java.util.Properties: the key ends at the first '=', ':' or blank that is not escaped; blanks around the separator
 * are dropped, blanks at the end of the value belong to it. */
static int properties_line(struct conf_parser *p)
{
    char *key = p->buffer, *stop = key;
    while (*stop && *stop != '=' && *stop != ':' && !is_blank(*stop))
        stop += stop[0] == '\\' && stop[1] ? 2 : 1;
    char *value = stop;
    while (is_blank(*value))
        value++;
    if (*value == '=' || *value == ':')
        value++;
    while (is_blank(*value))
        value++;
    *stop = '\0'; /* only now: the separator may stand there */
    int r = unescape(p, key);
    if (r == 0)
        r = unescape(p, value);
    return r < 0 ? r : add_entry(p, key, value);
}

static int parse_all(struct conf_parser *p)
{
    static const char byte_order_mark[] = "\xEF\xBB\xBF";
    if (p->end - p->pos >= 3 && memcmp(p->pos, byte_order_mark, 3) == 0)
        p->pos += 3;
    for (;;) {
        int r = logical_line(p);
        if (r <= 0)
            return r;
        r = p->dialect == CONF_INI ? ini_line(p) : properties_line(p);
        if (r < 0)
            return r;
    }
}

int conf_read_text(const char *name, const char *text, size_t size, enum conf_dialect dialect, struct conf **ret_conf,
                   char **ret_error)
{
    if (ret_error)
        *ret_error = NULL;
    struct conf *conf = calloc(1, sizeof *conf);
    PN_FREE char *buffer = malloc(CONF_LINE_MAX + 1);
    struct conf_parser p = {.conf = conf,
                            .dialect = dialect,
                            .pos = text,
                            .end = text + size,
                            .buffer = buffer,
                            .section = strdup(""),
                            .ret_error = ret_error};
    int r = -ENOMEM;
    if (conf && buffer && p.section && (conf->file = strdup(name)))
        r = parse_all(&p);
    free(p.section);
    if (r < 0) {
        conf_free(conf);
        return r;
    }
    *ret_conf = conf;
    return 0;
}

static int read_whole(const char *file, char **ret_text, size_t *ret_size)
{
    PN_CLOSE int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    PN_FREE char *text = NULL;
    size_t size = 0, capacity = 0;
    for (;;) {
        if (size == capacity) {
            capacity = capacity ? 2 * capacity : 16384;
            char *more = realloc(text, capacity);
            if (!more)
                return -ENOMEM;
            text = more;
        }
        ssize_t n = read(fd, text + size, capacity - size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        size += (size_t)n;
        if (size > CONF_FILE_MAX)
            return -EFBIG;
    }
    *ret_text = TAKE_PTR(text);
    *ret_size = size;
    return 0;
}

int conf_read_file(const char *file, enum conf_dialect dialect, struct conf **ret_conf, char **ret_error)
{
    PN_FREE char *text = NULL;
    size_t size = 0;
    if (ret_error)
        *ret_error = NULL;
    int r = read_whole(file, &text, &size);
    if (r < 0) {
        if (ret_error && asprintf(ret_error, "%s: %s", file, strerror(-r)) < 0)
            *ret_error = NULL;
        return r;
    }
    return conf_read_text(file, text, size, dialect, ret_conf, ret_error);
}

void conf_free(struct conf *conf)
{
    if (!conf)
        return;
    for (size_t i = 0; i < conf->count; i++) {
        free(conf->entries[i].section);
        free(conf->entries[i].key);
        free(conf->entries[i].value);
    }
    free(conf->entries);
    free(conf->file);
    free(conf);
}

const char *conf_get(struct conf *conf, const char *section, const char *key)
{
    const char *value = NULL;
    for (size_t i = 0; i < conf->count; i++) {
        struct conf_entry *entry = &conf->entries[i];
        if (strcmp(entry->section, section) == 0 && strcmp(entry->key, key) == 0) {
            entry->used = true;
            value = entry->value;
        }
    }
    return value;
}

int conf_get_i64(struct conf *conf, const char *section, const char *key, int64_t default_value, int64_t *ret_value)
{
    const char *text = conf_get(conf, section, key);
    if (!text) {
        *ret_value = default_value;
        return 0;
    }
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno)
        return -errno;
    while (is_blank(*end))
        end++;
    if (end == text || *end)
        return -EINVAL;
    *ret_value = value;
    return 0;
}

int conf_get_bool(struct conf *conf, const char *section, const char *key, bool default_value, bool *ret_value)
{
    static const char *const words[][2] = {{"false", "true"}, {"off", "on"}, {"no", "yes"}, {"0", "1"}};
    const char *text = conf_get(conf, section, key);
    if (!text) {
        *ret_value = default_value;
        return 0;
    }
    size_t size = strlen(text);
    while (size > 0 && is_blank(text[size - 1]))
        size--;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        for (int value = 0; value < 2; value++) {
            if (strlen(words[i][value]) == size && strncasecmp(text, words[i][value], size) == 0) {
                *ret_value = value;
                return 0;
            }
        }
    }
    return -EINVAL;
}

static size_t min_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edit distance without regard to case; words longer than the table are never near. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { WORD_MAX = 64 };
    size_t row[WORD_MAX + 1], size_a = strlen(a), size_b = strlen(b);
    if (size_a > WORD_MAX || size_b > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= size_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= size_a; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= size_b; j++) {
            size_t above = row[j];
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            row[j] = min_of(diagonal + !same, min_of(above, row[j - 1]) + 1);
            diagonal = above;
        }
    }
    return row[size_b];
}

const char *conf_nearest(const char *word, const char *const *names)
{
    const char *nearest = NULL;
    size_t limit = 1 + strlen(word) / 4; /* more changes than that is another word */
    size_t best = limit + 1;
    for (size_t i = 0; names[i]; i++) {
        size_t distance = edit_distance(word, names[i]);
        if (distance < best) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}
