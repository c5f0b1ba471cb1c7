# cmake -P: copies static libraries (IN, OUT: lists) with every symbol that SYMBOLS_OF defines renamed to store__NAME, but
# for those that begin with KEEP.
execute_process(COMMAND ${NM} -g --defined-only ${SYMBOLS_OF} OUTPUT_VARIABLE listing ERROR_QUIET COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[0-9a-f]+ [TDBRCVW] [^\n]+" lines "${listing}")
set(table "")
foreach(line ${lines})
    string(REGEX REPLACE "^[0-9a-f]+ . " "" symbol "${line}")
    if(symbol MATCHES "^[a-z_0-9]+$" AND NOT symbol MATCHES "^(__|${KEEP}|asan|sancov)")
        string(APPEND table "${symbol} store__${symbol}\n")
    endif()
endforeach()
file(WRITE ${OUT}.symbols "${table}")
execute_process(COMMAND ${OBJCOPY} --redefine-syms=${OUT}.symbols ${IN} ${OUT} COMMAND_ERROR_IS_FATAL ANY)
