/* Fault points from the supervisor's side: arming on command, disarming when they have done their work. */
#pragma once

#include "fault/fault.h"
#include "worker.h"

/* Points that kill are for one death: without this the successor would die at the same place, for ever. */
void faults_target_died(struct fault_page *page, const struct worker *worker);

/* "kill", "abort", "stall", "match", "try-tcp", …; FAULT_ACTION_NONE if unknown. Sets the argument where the name says it. */
enum fault_action faults_action_find(const char *name, uint64_t *argument);
