/* The files of consume queues: folders and files made when first needed, an LRU of descriptors, search by halving. Private
 * to consume_queue*.c. */
#pragma once

#include "consume_queue.h"

enum { ROLLED_MAX = 64 };

struct consume_queues {
    struct store *store;
    struct remover *remover;
    char *folder;
    int64_t file_size;
    int64_t log_min_pos;
    int64_t trusted_pos; /* entries at or behind it are not believed, in a start after an unclean stop */
    int64_t log_end; /* most that any loaded queue knows */
    bool damaged, gap;
    int64_t hole_pos, hole_size; /* of the log, the last one that a scan passed */
    int64_t stray_count;         /* records that a scan could not place */
    int64_t lost_most;           /* so many records may have stood in the holes */
    enum consume_queues_mode mode;
    struct consume_queue **by_slot;
    uint32_t slot_end; /* no queue at or behind it */

    struct queue_entry *entries; /* waiting to be written */
    unsigned entry_count, entry_room;
    struct consume_queue **touched; /* have entries waiting or written and not published */
    unsigned touched_count, touched_room;
    uint8_t *scratch;
    size_t scratch_size;

    struct consume_queue **dirty; /* written since the last sync */
    unsigned dirty_count, dirty_room;
    int rolled_fds[ROLLED_MAX]; /* files that were left full since the last sync */
    unsigned rolled_count;
    bool names_changed; /* files or folders were made since the last sync, or a descriptor was lost */

    struct consume_queue *lru;
    unsigned fds_open, fds_max;
};

struct consume_queues *consume_queues_make(struct store *store);

unsigned consume_queue_file_fds_max(void);
bool consume_queue_file_topic_exists(struct consume_queues *queues, const char *topic);
int consume_queue_file_list_queues(struct consume_queues *queues, const char *topic, int32_t **ret_ids,
                                   unsigned *ret_count);
void consume_queue_file_close(struct consume_queues *queues, struct consume_queue *queue);
/* Out of the way, in one rename; the remover takes it away. 0 also if there is no such folder. */
int consume_queue_file_abandon(struct consume_queues *queues, const char *topic);
/* Finds min, written and log_end. -EUCLEAN: these files are none of ours. */
int consume_queue_file_load(struct consume_queues *queues, struct consume_queue *queue, const char *topic);
int consume_queue_file_remove_all(struct consume_queues *queues, struct consume_queue *queue, const char *topic);
int consume_queue_file_cut(struct consume_queues *queues, struct consume_queue *queue, const char *topic,
                           int64_t log_end);
int consume_queue_file_read(struct consume_queues *queues, struct consume_queue *queue, const char *topic, int64_t offset,
                            struct queue_entry *ret_entry);
int consume_queue_file_write(struct consume_queues *queues, struct consume_queue *queue, const char *topic,
                             int64_t queue_offset, const uint8_t *entries, size_t count);
int consume_queue_file_dup(struct consume_queues *queues, struct consume_queue *queue, const char *topic);
