/* Queue locks: see queue_locks.h. A lock is in the image before its owner hears of it; a lease that has ended needs no
 * record, the clock is the same for a successor. */
#include "queue_locks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/panic.h"
#include "members.h"
#include "msg/msg.h"

enum { KEY_MAX = 4 + MSG_TOPIC_MAX + 1 };

struct lock {
    struct lock_group *group;
    char *client_id;
    int64_t lease_end_ms;
    UT_hash_handle hh;
    uint8_t key[]; /* queue id, topic, 0 */
};

/* By group first: a member that leaves, or a question about its group, then looks at that group's locks alone. */
struct lock_group {
    char *name;
    struct lock *by_key;
    UT_hash_handle hh;
};

struct queue_locks {
    struct lock_group *groups;
};

int queue_locks_new(struct queue_locks **ret_locks)
{
    *ret_locks = calloc(1, sizeof **ret_locks);
    return *ret_locks ? 0 : -ENOMEM;
}

static struct lock_group *find_group(const struct queue_locks *locks, struct bytes name)
{
    struct lock_group *group = NULL;
    if (name.size)
        HASH_FIND(hh, locks->groups, name.data, name.size, group);
    return group;
}

/* A group without locks is forgotten. */
static void drop(struct queue_locks *locks, struct lock *lock)
{
    struct lock_group *group = lock->group;
    HASH_DEL(group->by_key, lock);
    free(lock->client_id);
    free(lock);
    if (group->by_key)
        return;
    HASH_DEL(locks->groups, group);
    free(group->name);
    free(group);
}

/* Call back for each lock of a group, or of all; a lock may be dropped by it. */
static void each_of_group(struct lock_group *group, void (*visit)(struct lock *lock, void *context), void *context)
{
    struct lock *next;
    for (struct lock *lock = group->by_key; lock; lock = next) {
        next = lock->hh.next; /* the drop of the last one frees the group */
        visit(lock, context);
    }
}

static void each(struct queue_locks *locks, void (*visit)(struct lock *lock, void *context), void *context)
{
    struct lock_group *group, *next;
    HASH_ITER(hh, locks->groups, group, next)
    each_of_group(group, visit, context);
}

void queue_locks_free(struct queue_locks *locks)
{
    if (!locks)
        return;
    queue_locks_sweep(locks, INT64_MAX);
    free(locks);
}

/* Topics have no zero byte (checked here), so the key is unambiguous. 0 if it does not fit. */
static size_t make_key(uint8_t buffer[KEY_MAX], struct bytes group, struct bytes topic, int32_t queue_id)
{
    if (group.size == 0 || group.size > MSG_GROUP_MAX || topic.size == 0 || topic.size > MSG_TOPIC_MAX ||
        memchr(group.data, 0, group.size) || memchr(topic.data, 0, topic.size))
        return 0;
    struct cursor c = cursor_over(buffer, KEY_MAX);
    cursor_put_i32(&c, queue_id);
    memcpy(cursor_take(&c, topic.size), topic.data, topic.size);
    cursor_put_u8(&c, 0);
    pn_assert(!c.bad);
    return (size_t)(c.pos - buffer);
}

static struct lock *find(const struct queue_locks *locks, struct bytes group_name, const uint8_t *key, size_t key_size)
{
    const struct lock_group *group = find_group(locks, group_name);
    struct lock *lock = NULL;
    if (group)
        HASH_FIND(hh, group->by_key, key, key_size, lock);
    return lock;
}

static struct lock_group *ensure_group(struct queue_locks *locks, struct bytes name)
{
    struct lock_group *group = find_group(locks, name);
    if (group)
        return group;
    group = calloc(1, sizeof *group);
    pn_assert(group);
    group->name = strndup((const char *)name.data, name.size);
    pn_assert(group->name);
    HASH_ADD_KEYPTR(hh, locks->groups, group->name, name.size, group);
    return group;
}

static struct lock *find_or_add(struct queue_locks *locks, struct bytes group_name, const uint8_t *key, size_t key_size)
{
    struct lock *lock = find(locks, group_name, key, key_size);
    if (lock)
        return lock;
    lock = calloc(1, sizeof *lock + key_size);
    pn_assert(lock);
    memcpy(lock->key, key, key_size);
    lock->group = ensure_group(locks, group_name);
    HASH_ADD_KEYPTR(hh, lock->group->by_key, lock->key, key_size, lock);
    return lock;
}

static void set_owner(struct lock *lock, struct bytes client_id)
{
    if (lock->client_id && bytes_equal_text(client_id, lock->client_id))
        return;
    free(lock->client_id);
    lock->client_id = strndup((const char *)client_id.data, client_id.size);
    pn_assert(lock->client_id);
}

static struct bytes topic_of(const struct lock *lock)
{
    return bytes_of((const char *)lock->key + 4);
}

static int32_t queue_of(const struct lock *lock)
{
    int32_t queue_id;
    memcpy(&queue_id, lock->key, sizeof queue_id);
    return queue_id;
}

/* Image. */

static size_t record_size(struct bytes client_id, struct bytes group, struct bytes topic)
{
    return client_id.size + group.size + topic.size + 32;
}

static void write_lock(struct image *image, const struct lock *lock)
{
    struct cursor c = image_begin(image, IMAGE_LOCK);
    cursor_put_i64(&c, lock->lease_end_ms);
    cursor_put_i32(&c, queue_of(lock));
    cursor_put_string(&c, topic_of(lock));
    cursor_put_string(&c, bytes_of(lock->group->name));
    cursor_put_string(&c, bytes_of(lock->client_id));
    image_end(image, &c);
}

static void write_unlock(struct image *image, const struct lock *lock)
{
    struct cursor c = image_begin(image, IMAGE_UNLOCK);
    cursor_put_i32(&c, queue_of(lock));
    cursor_put_string(&c, topic_of(lock));
    cursor_put_string(&c, bytes_of(lock->group->name));
    image_end(image, &c);
}

static void write_one(struct lock *lock, void *context)
{
    if (lock->lease_end_ms > clock_monotonic_ms())
        write_lock(context, lock);
}

void queue_locks_write_image(struct queue_locks *locks, struct image *image)
{
    each(locks, write_one, image);
}

int queue_locks_apply_image(struct store *store, enum image_type type, struct bytes payload)
{
    struct cursor c = cursor_over(payload.data, payload.size);
    int64_t lease_end_ms = type == IMAGE_LOCK ? cursor_get_i64(&c) : 0;
    int32_t queue_id = cursor_get_i32(&c);
    struct bytes topic = cursor_get_string(&c), group = cursor_get_string(&c);
    uint8_t key[KEY_MAX];
    size_t key_size = c.bad ? 0 : make_key(key, group, topic, queue_id);
    if (key_size == 0)
        return -EBADMSG;
    if (type == IMAGE_UNLOCK) {
        struct lock *lock = find(store->queue_locks, group, key, key_size);
        if (lock)
            drop(store->queue_locks, lock);
        return 0;
    }
    struct bytes client_id = cursor_get_string(&c);
    if (c.bad || type != IMAGE_LOCK || client_id.size == 0)
        return -EBADMSG;
    struct lock *lock = find_or_add(store->queue_locks, group, key, key_size);
    set_owner(lock, client_id);
    lock->lease_end_ms = lease_end_ms;
    return 0;
}

/* Changes. */

bool queue_locks_take(struct store *store, struct bytes client_id, struct bytes group, struct bytes topic,
                      int32_t queue_id, int64_t now_ms)
{
    uint8_t key[KEY_MAX];
    size_t key_size = make_key(key, group, topic, queue_id);
    if (key_size == 0 || client_id.size == 0 || client_id.size > MSG_CLIENT_ID_MAX ||
        memchr(client_id.data, 0, client_id.size))
        return false;
    struct lock *lock = find(store->queue_locks, group, key, key_size);
    if (lock && lock->lease_end_ms > now_ms && !bytes_equal_text(client_id, lock->client_id))
        return false;
    if (image_make_room(store->image, 1, record_size(client_id, group, topic)) < 0)
        return false;
    lock = find_or_add(store->queue_locks, group, key, key_size);
    set_owner(lock, client_id);
    lock->lease_end_ms = now_ms + QUEUE_LOCK_LEASE_MS;
    write_lock(store->image, lock);
    return true;
}

/* A lock whose release finds no room in the image stays until its lease ends. */
static void release(struct store *store, struct lock *lock)
{
    if (image_make_room(store->image, 1,
                        record_size((struct bytes){NULL, 0}, bytes_of(lock->group->name), topic_of(lock))) < 0)
        return;
    write_unlock(store->image, lock);
    drop(store->queue_locks, lock);
}

void queue_locks_release(struct store *store, struct bytes client_id, struct bytes group, struct bytes topic,
                         int32_t queue_id)
{
    uint8_t key[KEY_MAX];
    size_t key_size = make_key(key, group, topic, queue_id);
    struct lock *lock = key_size ? find(store->queue_locks, group, key, key_size) : NULL;
    if (lock && bytes_equal_text(client_id, lock->client_id))
        release(store, lock);
}

struct releasing {
    struct store *store;
    struct bytes client_id;
};

static void release_of_client(struct lock *lock, void *context)
{
    const struct releasing *releasing = context;
    if (bytes_equal_text(releasing->client_id, lock->client_id))
        release(releasing->store, lock);
}

void queue_locks_client_gone(struct store *store, struct bytes group_name, struct bytes client_id)
{
    struct lock_group *group = find_group(store->queue_locks, group_name);
    struct releasing releasing = {.store = store, .client_id = client_id};
    if (group)
        each_of_group(group, release_of_client, &releasing);
}

static void release_if_absent(struct lock *lock, void *context)
{
    struct store *store = context;
    if (!members_has_client(store->members, bytes_of(lock->group->name), bytes_of(lock->client_id)))
        release(store, lock);
}

void queue_locks_release_absent(struct store *store)
{
    each(store->queue_locks, release_if_absent, store);
}

bool queue_locks_group_locked(const struct queue_locks *locks, struct bytes group_name, int64_t now_ms)
{
    const struct lock_group *group = find_group(locks, group_name);
    for (const struct lock *lock = group ? group->by_key : NULL; lock; lock = lock->hh.next)
        if (lock->lease_end_ms > now_ms)
            return true;
    return false;
}

struct sweeping {
    struct queue_locks *locks;
    int64_t now_ms;
};

static void drop_if_ended(struct lock *lock, void *context)
{
    const struct sweeping *sweeping = context;
    if (lock->lease_end_ms <= sweeping->now_ms)
        drop(sweeping->locks, lock);
}

void queue_locks_sweep(struct queue_locks *locks, int64_t now_ms)
{
    struct sweeping sweeping = {locks, now_ms};
    each(locks, drop_if_ended, &sweeping);
}
