// Numbers of nf_tables' netlink vocabulary. @wire-vocabulary
// Source: Linux include/uapi/linux/netfilter/{nfnetlink,nf_tables,nf_conntrack_common}.h; data types: nftables include/datatype.h.

export const NFNL_SUBSYS_NFTABLES = 10;
export const NFNL_MSG_BATCH_BEGIN = 16;
export const NFNL_MSG_BATCH_END = 17;
export const NFNLGRP_NFTABLES = 7;
export const NFPROTO_UNSPEC = 0;
export const NFPROTO_INET = 1;
export const NFPROTO_IPV4 = 2;
export const NFPROTO_IPV6 = 10;

export const MSG_NEWTABLE = 0;
export const MSG_GETTABLE = 1;
export const MSG_DELTABLE = 2;
export const MSG_NEWCHAIN = 3;
export const MSG_GETCHAIN = 4;
export const MSG_DELCHAIN = 5;
export const MSG_NEWRULE = 6;
export const MSG_GETRULE = 7;
export const MSG_DELRULE = 8;
export const MSG_NEWSET = 9;
export const MSG_GETSET = 10;
export const MSG_DELSET = 11;
export const MSG_NEWSETELEM = 12;
export const MSG_GETSETELEM = 13;
export const MSG_DELSETELEM = 14;
export const MSG_NEWGEN = 15;
export const MSG_GETGEN = 16;

export const LIST_ELEM = 1;
export const TABLE_NAME = 1;
export const TABLE_FLAGS = 2;

export const CHAIN_TABLE = 1;
export const CHAIN_NAME = 3;
export const CHAIN_HOOK = 4;
export const CHAIN_POLICY = 5;
export const CHAIN_TYPE = 7;
export const HOOK_HOOKNUM = 1;
export const HOOK_PRIORITY = 2;

export const RULE_TABLE = 1;
export const RULE_CHAIN = 2;
export const RULE_EXPRESSIONS = 4;
export const RULE_USERDATA = 7;
/** In a rule's user data: type, length, zero-terminated text. */
export const RULE_UDATA_COMMENT = 0;

export const SET_TABLE = 1;
export const SET_NAME = 2;
export const SET_FLAGS = 3;
export const SET_KEY_TYPE = 4;
export const SET_KEY_LEN = 5;
export const SET_DATA_TYPE = 6;
export const SET_DATA_LEN = 7;
export const SET_ID = 10;
export const SET_USERDATA = 13;
/** In a set's user data: type, length, value. */
export const SET_UDATA_KEY_BYTEORDER = 0;
export const SET_UDATA_COMMENT = 7;
export const BYTEORDER_HOST = 1;
export const BYTEORDER_BIG = 2;

export const SET_ANONYMOUS = 0x1;
export const SET_CONSTANT = 0x2;
export const SET_INTERVAL = 0x4;
export const SET_MAP = 0x8;

export const SET_ELEM_LIST_TABLE = 1;
export const SET_ELEM_LIST_SET = 2;
export const SET_ELEM_LIST_ELEMENTS = 3;
export const SET_ELEM_LIST_SET_ID = 4;
export const SET_ELEM_KEY = 1;
export const SET_ELEM_DATA = 2;
export const SET_ELEM_FLAGS = 3;
export const SET_ELEM_INTERVAL_END = 0x1;

export const DATA_VALUE = 1;
export const DATA_VERDICT = 2;
export const DATA_TYPE_VERDICT = 0xffffff00;
export const VERDICT_CODE = 1;
export const VERDICT_CHAIN = 2;
export const NF_DROP = 0;
export const NF_ACCEPT = 1;
export const NFT_JUMP = 0xfffffffd;
export const NFT_GOTO = 0xfffffffc;
export const NFT_RETURN = 0xfffffffb;

export const EXPR_NAME = 1;
export const EXPR_DATA = 2;

export const IMMEDIATE_DREG = 1;
export const IMMEDIATE_DATA = 2;
export const BITWISE_SREG = 1;
export const BITWISE_DREG = 2;
export const BITWISE_LEN = 3;
export const BITWISE_MASK = 4;
export const BITWISE_XOR = 5;
export const CMP_SREG = 1;
export const CMP_OP = 2;
export const CMP_DATA = 3;
export const CMP_EQ = 0;
export const CMP_NEQ = 1;
export const RANGE_SREG = 1;
export const RANGE_OP = 2;
export const RANGE_FROM_DATA = 3;
export const RANGE_TO_DATA = 4;
export const LOOKUP_SET = 1;
export const LOOKUP_SREG = 2;
export const LOOKUP_DREG = 3;
export const LOOKUP_SET_ID = 4;
export const LOOKUP_FLAGS = 5;
export const LOOKUP_INVERT = 1;
export const PAYLOAD_DREG = 1;
export const PAYLOAD_BASE = 2;
export const PAYLOAD_OFFSET = 3;
export const PAYLOAD_LEN = 4;
export const PAYLOAD_NETWORK = 1;
export const PAYLOAD_TRANSPORT = 2;
export const META_DREG = 1;
export const META_KEY = 2;
export const META_SREG = 3;
export const META_MARK = 3;
export const META_IIFNAME = 6;
export const META_OIFNAME = 7;
export const META_NFPROTO = 15;
export const META_L4PROTO = 16;
export const CT_DREG = 1;
export const CT_KEY = 2;
export const CT_STATE = 0;
export const LIMIT_RATE = 1;
export const LIMIT_UNIT = 2;
export const LIMIT_BURST = 3;
export const LIMIT_TYPE = 4;
export const LIMIT_FLAGS = 5;
export const COUNTER_BYTES = 1;
export const COUNTER_PACKETS = 2;
export const LOG_PREFIX = 2;
export const LOG_LEVEL = 5;
export const LOG_LEVEL_INFO = 6;
export const MASQ_FLAGS = 1;
export const NAT_TYPE = 1;
export const NAT_FAMILY = 2;
export const NAT_REG_ADDR_MIN = 3;
export const NAT_FLAGS = 7;
export const NAT_SNAT = 0;
/** NF_NAT_RANGE_PROTO_RANDOM_FULLY of nf_nat.h. */
export const NAT_RANGE_RANDOM_FULLY = 1 << 4;
export const FIB_DREG = 1;
export const FIB_RESULT = 2;
export const FIB_FLAGS = 3;
export const FIB_RESULT_OIF = 1;
export const FIB_SADDR = 1 << 0;
export const FIB_IIF = 1 << 3;
export const FIB_PRESENT = 1 << 5;
export const GEN_ID = 1;
export const GEN_PROC_PID = 2;
export const GEN_PROC_NAME = 3;

export const REG_VERDICT = 0;
/** The first 16-octet register. */
export const REG_1 = 1;
/** The first of the 4-octet registers that lie over the others; REG32_00 lies over the start of REG_1. */
export const REG32_00 = 8;

/** Data types as nft names them; only for how it prints. */
export const TYPE_IPV4 = 7;
export const TYPE_IPV6 = 8;
export const TYPE_PROTOCOL = 12;
export const TYPE_SERVICE = 13;
export const TYPE_ICMP_TYPE = 14;
export const TYPE_CT_STATE = 26;
export const TYPE_ICMPV6_TYPE = 29;
export const TYPE_ICMP_CODE = 32;
export const TYPE_ICMPV6_CODE = 33;
export const TYPE_IFNAME = 41;
/** Bits a field takes in the type of a concatenation. */
export const TYPE_BITS = 6;

export const CT_STATE_BITS = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;
export const HOOK_NUMBERS = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;
