"""Families of the class O(2^n), as templates (big_o_template)."""

from __future__ import annotations

from experiments.domains.big_o_template import Family

FAMILIES = (
    Family(
        "O(2^n)",
        "two_calls",
        "int",
        (
            """
def F(N):
    if N «<= 0|< 1|== 0»:
        return «1|#|N + #»
    «A = F(N - 1)
    B = F(N - 1)|A, B = F(N - 1), F(N - 1)|A = F(N - 1)
    B = F(N - 1) + #|A = B = F(N - 1)
    B -= F(N - 1)»
    «if A > B:
        return A
    |A += N % #
    |»«return A + B|return A - B + N|return max(A, B) + #|return (A * # + B) % ##|return A ^ B»
""",
            """
def F(N):
    «if N > 0:
        return F(N - 1) «+|-|^» F(N - 1)«| * #| + N»
    return #|return # if N «<= 0|< 1» else F(N - 1) «+|-|^» F(N - 1)«| + #|»|if N == 0:
        return #
    return max(F(N - 1), # - F(N - 1))»
""",
        ),
    ),
    Family(
        "O(2^n)",
        "take_or_leave",
        "list",
        (
            """
def G(XS, I, A):
    if I «==|>=» len(XS):
        return «A|A % #|A + I|int(A > ##)|max(A, #)»
    «B = G(XS, I + 1, A)
    C = G(XS, I + 1, A + XS[I])|C = G(XS, I + 1, max(A, XS[I]))
    B = G(XS, I + 1, A)|B, C = G(XS, I + 1, A), G(XS, I + 1, A ^ XS[I])»
    «return B + C|return max(B, C)|return B if B «<|>» C else C|return B - C»
def F(XS):
    @give G(XS, 0, «0|#»)
""",
        ),
    ),
    Family(
        "O(2^n)",
        "every_mask",
        "int",
        (
            """
def F(N):
    @check N
    T = «0|#»
    for I in range(«1 << N|2 ** N|1, 2 ** N|1, 1 << N|2 ** N - 1, -1, -1»):
        @fold T by «I|I % #|I & N|I ^ N|I >> 1»
    @give T
""",
        ),
    ),
    Family(
        "O(2^n)",
        "mask_of_list",
        "list",
        (
            """
def F(XS):
    @guard XS
    T, I = «0|#», 0
    while I < «1 << len(XS)|2 ** len(XS)»:
        @fold T by «I|XS[I % len(XS)]|I ^ XS[0]|XS[-1] - I»
        I += 1
    @give T
""",
        ),
    ),
    Family(
        "O(2^n)",
        "growing_sums",
        "list",
        (
            """
def F(XS):
    YS = [«0|#»]
    @each X in XS:
        «YS = YS + [Y «+|-|^» X for Y in YS]|YS += [Y «+|-|^» X for Y in YS]|YS.extend([Y «+|-|^» X for Y in YS])|ZS = []
        for Y in YS:
            ZS.append(Y)
            ZS.append(Y «+|-» X)
        YS = ZS»
    «return len(YS)|return max(YS)|return sum(YS)|return YS[-1]|return YS[len(YS) // 2]»
""",
        ),
    ),
    Family(
        "O(2^n)",
        "towers",
        "int",
        (
            """
def F(N, A=«0|1|#», B=#, C=#):
    if N «== 0|<= 0|< 1»:
        return «0|A|A - C|#»
    «T = F(N - 1, A, C, B)
    T += «1|A|N|B»
    return T + F(N - 1, C, B, A)|return F(N - 1, A, C, B) + «1|B|N» + F(N - 1, C, B, A)|T = F(N - 1, B, A, C) - F(N - 1, C, A, B)
    return T + «A|#|N»|return max(F(N - 1, C, A, B), «A|B» + F(N - 1, B, C, A))»
""",
        ),
    ),
    Family(
        "O(2^n)",
        "all_words",
        "int",
        (
            """
def G(I, YS, A):
    if I «== 0|<= 0»:
        YS.append(A«| % ##| - #»)
        return
    «G(I - 1, YS, A * 2)
    G(I - 1, YS, A * 2 + 1)|G(I - 1, YS, A + I)
    G(I - 1, YS, A - I)|for J in range(2):
        G(I - 1, YS, A * # + J)|G(I - 1, YS, A ^ I)
    G(I - 1, YS, A)»
def F(N):
    YS = []
    G(N, YS, «0|#»)
    «return len(YS)|return max(YS)|return YS|return YS[-1]|return sum(YS)»
""",
        ),
    ),
    Family(
        "O(2^n)",
        "plus_or_minus",
        "search",
        (
            """
def G(XS, I, A):
    if I «==|>=» len(XS):
        return «int(A == 0)|1 if A % # == 0 else 0|abs(A)|int(A > #)»
    return «G(XS, I + 1, A - XS[I]) + G(XS, I + 1, A + XS[I])|max(G(XS, I + 1, A + XS[I]), G(XS, I + 1, A - XS[I]))|G(XS, I + 1, A * # - XS[I]) + G(XS, I + 1, A)»
def F(XS, A):
    @give G(XS, 0, A«| + #| - #»)
""",
        ),
    ),
    Family(
        "O(2^n)",
        "doubling_list",
        "int",
        (
            """
def F(N):
    @check N
    YS = [«1|#|0»]
    @times I in N:
        «YS = YS + YS|YS += YS[::-1]|YS.extend([Y + # for Y in YS])|YS = YS + [Y * # + I for Y in YS]|YS += [Y ^ I for Y in reversed(YS)]»
    «return len(YS)|return YS[-1]|return sum(YS)|return max(YS)|return YS[len(YS) // 2]|return YS»
""",
        ),
    ),
    Family(
        "O(2^n)",
        "carry_over",
        "int",
        (
            """
def F(N):
    @check N
    YS, T, I = [0] * N, «0|#», 0
    while I < N:
        I = 0
        while I < N and YS[I] «== 1|> 0»:
            YS[I] = 0
            I += 1
        if I < N:
            YS[I] = 1
        «T += 1|T += I|T = max(T, I)|T ^= I|T -= YS[0]»
    @give T
""",
        ),
    ),
    Family(
        "O(2^n)",
        "flag_counter",
        "list",
        (
            """
def F(XS):
    D, T = [False] * len(XS), «0|#»
    while True:
        «T += 1|T += sum(XS[:1])|T -= #»
        I = 0
        while I < len(XS) and D[I]:
            D[I] = False
            «T -= XS[I]|T ^= XS[I]|T = max(T, XS[I])»
            I += 1
        if I == len(XS):
            return «T|T - #|T * #»
        D[I] = True
""",
        ),
    ),
    Family(
        "O(2^n)",
        "power_countdown",
        "int",
        (
            """
def F(N):
    @check N
    A, T = 1, «0|#»
    for I in range(N):
        «A *= 2|A += A|A <<= 1|A = A * 2»
    «while A > 0:|while A:|while A >= 1:»
        @fold T by «A|A % #|A ^ N|N - A»
        A -= 1
    @give T
""",
            """
def F(N):
    @check N
    T, A = «0|#», «2 ** N|1 << N»
    @times I in A:
        @fold T by «I|A - I|I ^ A|I % #|I & N»
    @give T
""",
        ),
    ),
    Family(
        "O(2^n)",
        "all_smaller",
        "int",
        (
            """
def F(N):
    T = «1|#|N»
    for I in range(N):
        «T += F(I)|T -= F(I)|T = max(T, F(I))|T ^= F(I) + #|T = (T + F(I)) % ##|A = F(I)
        if A > T:
            T = A»
    @give T
""",
            """
def F(N):
    if N «<= 0|== 0|< 1»:
        return «1|#»
    return «sum(F(I) for I in range(N))|max(F(I) for I in range(N)) + #|sum([F(I) for I in range(N)]) % ##|sum(F(N - 1) - # for I in range(2))»
""",
        ),
    ),
    Family(
        "O(2^n)",
        "open_branches",
        "int",
        (
            """
def F(N):
    @check N
    XS, T = [N], «0|#»
    while XS:
        A = XS.pop()
        «T += 1|T += A|T = max(T, A % #)|T ^= A»
        if A > 0:
            «XS.append(A - 1)
            XS.append(A - 1)|XS += [A - 1, A - 1]|XS.extend([A - 1] * 2)|for I in range(2):
                XS.append(A - 1)»
    @give T
""",
        ),
    ),
    Family(
        "O(2^n)",
        "open_choices",
        "list",
        (
            """
def F(XS):
    YS, T = [(0, «0|#»)], 0
    while YS:
        I, A = YS.pop()
        if I < len(XS):
            «YS.append((I + 1, A))
            YS.append((I + 1, A + XS[I]))|YS.append((I + 1, A - XS[I]))
            YS.append((I + 1, A))|YS += [(I + 1, A), (I + 1, max(A, XS[I]))]»
        else:
            «T += 1|T = max(T, A)|T += A > #|T ^= A»
    @give T
""",
        ),
    ),
    Family(
        "O(2^n)",
        "either_end",
        "list",
        (
            """
def G(XS, I, J):
    if I «> J|>= J + 1»:
        return «0|#»
    «A = XS[I] + G(XS, I + 1, J)
    B = XS[J] + G(XS, I, J - 1)|A = XS[I] - G(XS, I + 1, J)
    B = XS[J] - G(XS, I, J - 1)|A, B = G(XS, I + 1, J), G(XS, I, J - 1) + XS[J]»
    «return max(A, B)|return min(A, B)|return A + B|return A if A % # == 0 else B»
def F(XS):
    @guard XS
    @give G(XS, 0, len(XS) - 1)
""",
        ),
    ),
    Family(
        "O(2^n)",
        "fill_the_room",
        "list",
        (
            """
def G(XS, I, N):
    if I «==|>=» len(XS)«| or N < 0»:
        return «0|#|N»
    A = G(XS, I + 1, N)
    «if XS[I] > N:
        return A
    B = XS[I] + G(XS, I + 1, N - XS[I])|if N < XS[I]:
        return A + #
    B = G(XS, I + 1, N - XS[I]) + 1|B = G(XS, I + 1, N - XS[I]) if XS[I] <= N else #»
    «return max(A, B)|return A + B|return A if A > B else B|return max(A, B - #)»
def F(XS):
    @give G(XS, 0, sum(XS)«| + #| * #»)
""",
        ),
    ),
)
