/* The response codes that the store gives (remoting facts; the whole table is the front's, ipc/wire). */
#pragma once

enum code {
    CODE_SUCCESS = 0,
    CODE_SYSTEM_ERROR = 1,
    CODE_FLUSH_DISK_TIMEOUT = 10,
    CODE_NO_PERMISSION = 16,
    CODE_TOPIC_NOT_EXIST = 17,
    CODE_QUERY_NOT_FOUND = 22,
    CODE_SUBSCRIPTION_GROUP_NOT_EXIST = 26,
    CODE_INVALID_PARAMETER = 29,
};
