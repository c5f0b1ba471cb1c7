/* pintle fsck on a folder. */
#pragma once

/* What it finds: damage and notes together; -1 if it does not run. Its words go to `text`, NUL-terminated. */
int fsck_findings(const char *folder, char *text, unsigned size);
