"""Families of the classes O(1) and O(log n), as templates (big_o_template)."""

from __future__ import annotations

from experiments.domains.big_o_template import Family

CONSTANT = (
    Family(
        "O(1)",
        "ends",
        "list",
        (
            """
def F(XS):
    @guard XS
    «A, B = XS[0], XS[-1]|A = XS[0]
    B = XS[len(XS) - 1]|A = XS[-1]
    B = XS[len(XS) // 2]|A, B = XS[-1], #»
    «if A > B:
        A, B = B, A|if A == B:
        return #|if A % # == 0:
        A += #|A -= B % #|»
    @give «A + B|A * B|A - B|A ^ B|max(A, B)|abs(A - B)|(A + B) // #»
""",
        ),
    ),
    Family(
        "O(1)",
        "middle",
        "list",
        (
            """
def F(XS):
    @guard XS
    C = len(XS)«| - 1| // #»
    A = XS[C «// 2|>> 1|// #|- #»]
    «B = XS[0]|B = XS[-1]|B = XS[C // #]|B = C|B = #»
    «if A < B:
        A, B = B, A
    |if A > B:
        return B
    |if B > A and C > #:
        A += C
    |»
    @give «A - B|A + B * #|A % (abs(B) + 1)|A * B|min(A, B) + C»
""",
        ),
    ),
    Family(
        "O(1)",
        "formula",
        "int",
        (
            """
def F(N):
    @check N
    T = «N * (N + 1) // 2|N * N - #|N * (N - #) // #|(N + #) * (N - #)|N * (N + 1) * (2 * N + 1) // 6|N ^ N // #|N % ## * #»
    «T -= N % #|T += N // #|T ^= N|if N % 2 == 0:
        T += #|if T > ##:
        T %= ##|if T % # == 1:
        T, N = N, T|»
    @give «T|T - N|T + N % #»
""",
        ),
    ),
    Family(
        "O(1)",
        "lookup",
        "int",
        (
            """
def F(N):
    @check N
    YS = «(#, #, #, #)|[#, ##, #, #, #]|(##, #, ##)»
    «I = N % len(YS)|I = (N + #) % len(YS)|I = N // # % len(YS)|I = (N ^ #) % len(YS)»
    @give «YS[I]|YS[I] * N|YS[I] + YS[I - 1]|N - YS[I]|YS[I] ^ N|YS[I] * YS[-1]»
""",
            """
def F(N):
    @check N
    «D = {0: #, 1: ##, 2: #}|D = {0: ##, #: N}|D = {1: N, 2: #, #: ##}»
    T = «D.get(N % #, #)|D.get(N // #, ##)|D[N % 3] if N % 3 in D else #|D.get(N & #)  or N»
    @give «T|T + N|T - len(D)|T * N»
""",
        ),
    ),
    Family(
        "O(1)",
        "few_picks",
        "list",
        (
            """
def F(XS):
    @guard XS
    T = «0|1|#|XS[0]»
    @times I in «#|#|min(#, len(XS))»:
        @fold T by «XS[I % len(XS)]|XS[-I % len(XS)]|XS[I * # % len(XS)]|XS[I % len(XS)] - I»
    @give T
""",
        ),
    ),
    Family(
        "O(1)",
        "swap_ends",
        "list",
        (
            """
def F(XS):
    @guard XS
    if XS[«0|len(XS) // 2|# % len(XS)»] «<|>|<=» XS[-1]«| - #»:
        «XS[0], XS[-1] = XS[-1], XS[0]|XS[0] += XS[-1]|XS[0], XS[len(XS) // 2] = XS[len(XS) // 2], XS[0]|A = XS[0]
        XS[0] = XS[-1]
        XS[-1] = A|XS[-1] = #»
    «else:
        XS[0] -= #|else:
        return XS[0]|elif XS[-1] % # == 0:
        return #|»
    @give «XS[0]|XS[-1]|XS[0] - XS[-1]|XS[len(XS) // 2]»
""",
        ),
    ),
    Family(
        "O(1)",
        "clamp",
        "int",
        (
            """
def F(N):
    «T = N + #|T = N * #|T = N - ##|T = N % ##|T = N»
    if T < #:
        return «#|0|T»
    «if T > ##:
        return ##|if T > ##:
        T = ##|if T % # == 0 and N > #:
        return N|elif T > ##:
        T -= ##»
    «if T == N:
        T += #|T ^= #|if N > T:
        return T|»
    @give T
""",
        ),
    ),
    Family(
        "O(1)",
        "pop_push",
        "list",
        (
            """
def F(XS):
    @guard XS
    A = XS.pop()
    «if A > #:
        XS.append(A - #)|XS.append(A + #)|if XS and XS[-1] < A:
        A = XS.pop()|XS.append(A)
    XS.append(A * #)|»
    «if len(XS) > #:
        A += XS[-#]|if XS:
        A -= XS[0]|»
    @give «A|len(XS)|A + len(XS)|A * #»
""",
        ),
    ),
    Family(
        "O(1)",
        "small_grid",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|#|N»
    @times I in #:
        @times J in #:
            @fold T by «N % (I + J + 1)|N + I * J|(N >> I) ^ J|(N + I) % # * J»
    @give T
""",
        ),
    ),
    Family(
        "O(1)",
        "dates",
        "int",
        (
            """
def F(N):
    A = «N % 4 == 0 and N % 100 != 0|N % # == 0|N % # < # and N > ##|not N % #|N & 1 == 0»
    «B = N % 7|B = N // # % 12|B = (N + N // 4) % 7|B = N % ##»
    «if A:
        B += 1|if A or B > #:
        return #|B = B + # if A else B - #|if A and B:
        B = #»
    @give «B|B * #|N - B|B + int(A)|(B + #) % 7»
""",
        ),
    ),
    Family(
        "O(1)",
        "low_bits",
        "int",
        (
            """
def F(N):
    @check N
    T = 0
    @times I in «8|16|4|#|32»:
        «if N >> I & 1:
            @fold T by «I|1|#»|@fold T by «(N >> I & 1)|(N >> I) % #|N & I»|if N & 1 << I:
            return I»
    @give T
""",
        ),
    ),
    Family(
        "O(1)",
        "short_sort",
        "list",
        (
            """
def F(XS):
    @guard XS
    «YS = sorted(XS[:#])|YS = sorted(XS[-#:], reverse=True)|YS = XS[:#]
    YS.sort()|YS = XS[-#:]|YS = [X * # for X in XS[:#]]|YS = sorted(X % ## for X in XS[:##])»
    «if len(YS) < #:
        return #
    |if YS[0] > #:
        YS.append(#)
    |»
    @give «YS[0] + YS[-1]|YS[len(YS) // 2]|max(YS) - min(YS)|sum(YS)|YS[0] * len(YS)|sum(YS) // len(YS)»
""",
        ),
    ),
    Family(
        "O(1)",
        "fixed_calls",
        "int",
        (
            """
def G(A, B):
    «return A * B + #|if A > B:
        return A - B
    return B - A|return (A + B) % ##|return A if A % # > B % # else B»
def F(N):
    @check N
    T = G(N, #)
    «T = G(T, N)|T += G(#, N)|if T > #:
        T = G(N, T)|»
    @give «T|T - G(T, #)|T + N»
""",
            """
def F(N, D=#):
    if D == 0«:| or N == #:»
        return «N % ##|#|N»
    «N = N + D|N ^= #|if N % # == 0:
        return N|»
    «return F(N // #, D - 1) + #|return F(N + #, D - 1)|return D + F(N - D, D - 1)|return F(N * # % ##, D - 1) ^ D»
""",
        ),
    ),
)

LOGARITHMIC = (
    Family(
        "O(log n)",
        "shrink",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|1|#»
    while N > «0|1|#»:
        @fold T by «N|N % #|#|N - 1»
        @halve N
    @give T
""",
        ),
    ),
    Family(
        "O(log n)",
        "grow",
        "int",
        (
            """
def F(N):
    @check N
    T, I = «0|1|#», 1
    while I «<|<=» N:
        @fold T by «I|I % #|N - I|N % I»
        @double I
    @give T
""",
        ),
    ),
    Family(
        "O(log n)",
        "grow_index",
        "list",
        (
            """
def F(XS):
    @guard XS
    T, I = «0|1|#», «1|1|2»
    while I < len(XS):
        @fold T by «XS[I]|XS[I] - XS[0]|XS[-I]|XS[I - 1]»
        «@double I|@double I|I = I * 2 + 1|I += I & -I»
    @give T
""",
        ),
    ),
    Family(
        "O(log n)",
        "seek",
        "search",
        (
            """
def F(XS, A):
    @guard XS
    I, J = 0, len(XS)«| - 1»
    while I < J:
        C = «(I + J) // 2|I + (J - I) // 2|(I + J) >> 1»
        «if XS[C] == A:
            return «C|#|A»|»
        «if XS[C] < A:
            I = C + 1
        else:
            J = C|if XS[C] > A:
            J = C
        else:
            I = C + 1|I, J = (C + 1, J) if XS[C] < A else (I, C)»
    @give «I|J|I - len(XS)»
""",
        ),
    ),
    Family(
        "O(log n)",
        "seek_again",
        "search",
        (
            """
def G(XS, A, I, J):
    if I >= J:
        return «I|-1|#|J»
    C = «(I + J) // 2|I + (J - I) // 2|(I + J) >> 1»
    «if XS[C] == A:
        return «C|A»
    |»
    «if XS[C] < A:
        return G(XS, A, C + 1, J)
    return G(XS, A, I, C)|if XS[C] > A:
        return G(XS, A, I, C)
    return G(XS, A, C + 1, J)|return G(XS, A, C + 1, J) if XS[C] < A else G(XS, A, I, C)»
def F(XS, A):
    @guard XS
    @give G(XS, A, 0, len(XS)«| - 1»)
""",
        ),
    ),
    Family(
        "O(log n)",
        "descend",
        "int",
        (
            """
def F(N):
    if N «<= 1|< #|== 0»:
        return «0|1|#|N»
    «A = N % #|A = 1 if N % 2 else #|A = N & 1|A = min(N, ##)»
    return «F(N // 2)|F(N >> 1)|F(N // 3)|F(N // #)» «+|-|*|^» «A|(A + #)|#»
""",
            """
def F(N, T=«0|#|1»):
    if N «<= 1|< #|== 0»:
        return «T|T + #|T - N»
    @fold T by «N|N % #|N & 1|#»
    return «F(N // 2, T)|F(N >> 1, T)|F(N // 3, T)|F(N // #, T + 1)»
""",
        ),
    ),
    Family(
        "O(log n)",
        "bits",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|#»
    while N:
        «if N & 1:|if N % 2:|if N % # == 0:|if not N & 1:»
            @fold T by «1|#|N % ##»
        «else:
            T -= #|»
        @halve N
    @give T
""",
            """
def F(N):
    @check N
    T = «0|#»
    while N:
        «N &= N - 1|N -= N & -N|N = N & (N - 1)»
        @fold T by «1|#|N % ##|N»
    @give T
""",
        ),
    ),
    Family(
        "O(log n)",
        "repeated_square",
        "int",
        (
            """
def F(N, A=#):
    @check N
    T = 1
    while N > 0:
        «if N & 1:|if N % 2:|if N % 2 == 1:»
            T = «T * A % ##|(T + A) % ##|T * A % ## + 1|(T ^ A) % ##»
        A = «A * A % ##|(A * A + #) % ##|(A + A) % ##»
        «N //= 2|N >>= 1|N = N // 2»
    @give T
""",
            """
def F(N):
    if N «<= 0|== 0|< 2»:
        return «1|#»
    A = F(«N // 2|N >> 1»)
    «if N % 2:
        return «A * A * # % ##|(A * A + #) % ##|A + N»|if N & 1:
        A = «A * # % ##|A + 1»|A += N % 2 * #»
    return «A * A % ##|(A + A) % ##|A * (A + #) % ##»
""",
        ),
    ),
    Family(
        "O(log n)",
        "digits",
        "int",
        (
            """
def F(N):
    @check N
    T = 0
    while N «> 0|>= 10|»:
        «A = N % 10|N, A = divmod(N, 10)|A = N % #»
        @fold T by «A|A * A|A % #|A - #»
        N //= «10|10|#»
    @give T
""",
            """
def F(N):
    @check N
    XS = []
    while N«| > 0| > #»:
        XS.append(«N % 10|N % #|N & 1|N»)
        N «//= 10|//= #|>>= 1|>>= 2»
    «return XS«|[0] if XS else #»|return len(XS)|XS.append(#)
    return XS|return sum(XS)|return max(XS) if XS else 0»
""",
        ),
    ),
    Family(
        "O(log n)",
        "whole_root",
        "int",
        (
            """
def F(N):
    @check N
    I, J = «0|1», N«| + #»
    while I < J:
        C = «(I + J + 1) // 2|I + (J - I + 1) // 2|(I + J + 1) >> 1»
        if «C * C|C * (C + #) // 2|C * #|C * C * C» «<=|<» N«| - #»:
            I = C
        else:
            J = C - 1
    @give «I|J|N - I|N - I * I»
""",
        ),
    ),
    Family(
        "O(log n)",
        "one_heap_step",
        "list",
        (
            """
import heapq
def F(XS):
    @guard XS
    «A = heapq.heappop(XS)|A = heapq.heapreplace(XS, ##)|A = heapq.heappop(XS)
    heapq.heappush(XS, A + #)|A = heapq.heappop(XS) + heapq.heappop(XS)|A = heapq.heappop(XS)
    if A «<|>» XS[0]:
        A = heapq.heappop(XS)»
    «if A > #:
        A -= #|if len(XS) > #:
        A += len(XS)|A ^= #|»
    @give «A|A - XS[0]|A * len(XS)|A + XS[-1]|XS[0]»
""",
        ),
    ),
    Family(
        "O(log n)",
        "find_place",
        "search",
        (
            """
import bisect
def F(XS, A):
    @guard XS
    I = bisect.«bisect_left|bisect_right|bisect»(XS, A«| + #| - #»)
    «if I «==|>=» len(XS):
        return «-1|#|I»
    if XS[I] != A:
        return #|if I < len(XS) and XS[I] == A:
        return «I|#|XS[0]»|J = bisect.«bisect_left|bisect_right»(XS, A + #)
    I = J - I|if I > #:
        I -= 1|I = max(I - 1, 0)»
    @give «I|len(XS) - I|I * #|A - I»
""",
        ),
    ),
    Family(
        "O(log n)",
        "climb",
        "list",
        (
            """
def F(XS):
    @guard XS
    I, T = len(XS) - 1, «0|XS[-1]|#»
    while I > 0:
        @fold T by «XS[I]|XS[I] - XS[0]|I|XS[I // 2]»
        I = «(I - 1) // 2|I // 2|(I - 1) >> 1|(I - 1) // 3»
    @give T
""",
            """
def F(XS):
    @guard XS
    I = 0
    «T = #|T = XS[0]|T = 0»
    while «I < len(XS)|2 * I + 2 < len(XS)»:
        @fold T by «XS[I]|I|XS[I] % #»
        «I = 2 * I + 1|I = 2 * I + 2|if T > ##:
            I = 2 * I + 1
        else:
            I = 2 * I + 2|I = 2 * I + 1 + T % 2»
    @give T
""",
        ),
    ),
    Family(
        "O(log n)",
        "narrow_passes",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|#»
    while N > «0|1|#»:
        @times I in #:
            @fold T by «N % (I + 1)|N - I|N ^ I|I»
        @halve N
    @give T
""",
        ),
    ),
    Family(
        "O(log n)",
        "wide_then_narrow",
        "search",
        (
            """
def F(XS, A):
    @guard XS
    J = 1
    while J < len(XS) and XS[J] < A:
        «J *= 2|J += J|J <<= 1|J = J * 2 + 1»
    I, J = J // 2, min(J, len(XS) - 1)
    while I < J:
        C = «(I + J) // 2|(I + J) >> 1»
        «if XS[C] < A:
            I = C + 1
        else:
            J = C|if XS[C] >= A:
            J = C
        else:
            I = C + 1»
    @give «I|XS[I]|XS[I] - A|(I if XS[I] == A else #)»
""",
        ),
    ),
)

FAMILIES = (*CONSTANT, *LOGARITHMIC)
