// The part of etcd's gRPC API (v3, as of etcd 3.4) that the driver speaks: field numbers for the wire, types for the
// compiler. In: nothing. Out: METHODS' paths with their encoders. Specification: the published etcd v3 API reference,
// packages etcdserverpb and mvccpb.
//
// Traps: 64-bit integers are read as numbers. Revisions stay below 2^53; cluster and member ids do not, so they are good
// for telling two apart, not for sending back.
import { fromJSON, type MethodDefinition } from '@grpc/proto-loader';

const field = (type: string, id: number) => ({ type, id });
const many = (type: string, id: number) => ({ rule: 'repeated', type, id });
const message = (fields: Record<string, unknown>) => ({ fields });

const kv = {
  KeyValue: message({
    key: field('bytes', 1),
    createRevision: field('int64', 2),
    modRevision: field('int64', 3),
    version: field('int64', 4),
    value: field('bytes', 5),
    lease: field('int64', 6),
  }),
  Event: message({ type: field('int32', 1), kv: field('KeyValue', 2), prevKv: field('KeyValue', 3) }),
};

const api = {
  KV: {
    methods: {
      Range: { requestType: 'RangeRequest', responseType: 'RangeResponse' },
      Txn: { requestType: 'TxnRequest', responseType: 'TxnResponse' },
    },
  },
  Watch: {
    methods: {
      Watch: { requestType: 'WatchRequest', requestStream: true, responseType: 'WatchResponse', responseStream: true },
    },
  },
  Auth: { methods: { Authenticate: { requestType: 'AuthenticateRequest', responseType: 'AuthenticateResponse' } } },
  Maintenance: { methods: { Status: { requestType: 'StatusRequest', responseType: 'StatusResponse' } } },
  ResponseHeader: message({
    clusterId: field('uint64', 1),
    memberId: field('uint64', 2),
    revision: field('int64', 3),
    raftTerm: field('uint64', 4),
  }),
  RangeRequest: message({
    key: field('bytes', 1),
    rangeEnd: field('bytes', 2),
    limit: field('int64', 3),
    revision: field('int64', 4),
    keysOnly: field('bool', 8),
    countOnly: field('bool', 9),
  }),
  RangeResponse: message({
    header: field('ResponseHeader', 1),
    kvs: many('mvccpb.KeyValue', 2),
    more: field('bool', 3),
    count: field('int64', 4),
  }),
  PutRequest: message({ key: field('bytes', 1), value: field('bytes', 2) }),
  PutResponse: message({ header: field('ResponseHeader', 1) }),
  DeleteRangeRequest: message({ key: field('bytes', 1), rangeEnd: field('bytes', 2) }),
  DeleteRangeResponse: message({ header: field('ResponseHeader', 1), deleted: field('int64', 2) }),
  RequestOp: {
    oneofs: { request: { oneof: ['requestRange', 'requestPut', 'requestDeleteRange'] } },
    fields: {
      requestRange: field('RangeRequest', 1),
      requestPut: field('PutRequest', 2),
      requestDeleteRange: field('DeleteRangeRequest', 3),
    },
  },
  ResponseOp: {
    oneofs: { response: { oneof: ['responseRange', 'responsePut', 'responseDeleteRange'] } },
    fields: {
      responseRange: field('RangeResponse', 1),
      responsePut: field('PutResponse', 2),
      responseDeleteRange: field('DeleteRangeResponse', 3),
    },
  },
  Compare: message({
    result: field('int32', 1),
    target: field('int32', 2),
    key: field('bytes', 3),
    modRevision: field('int64', 6),
  }),
  TxnRequest: message({ compare: many('Compare', 1), success: many('RequestOp', 2), failure: many('RequestOp', 3) }),
  TxnResponse: message({
    header: field('ResponseHeader', 1),
    succeeded: field('bool', 2),
    responses: many('ResponseOp', 3),
  }),
  WatchRequest: {
    oneofs: { request: { oneof: ['createRequest'] } },
    fields: { createRequest: field('WatchCreateRequest', 1) },
  },
  WatchCreateRequest: message({
    key: field('bytes', 1),
    rangeEnd: field('bytes', 2),
    startRevision: field('int64', 3),
    progressNotify: field('bool', 4),
    prevKv: field('bool', 6),
    fragment: field('bool', 8),
  }),
  WatchResponse: message({
    header: field('ResponseHeader', 1),
    watchId: field('int64', 2),
    created: field('bool', 3),
    canceled: field('bool', 4),
    compactRevision: field('int64', 5),
    cancelReason: field('string', 6),
    fragment: field('bool', 7),
    events: many('mvccpb.Event', 11),
  }),
  AuthenticateRequest: message({ name: field('string', 1), password: field('string', 2) }),
  AuthenticateResponse: message({ header: field('ResponseHeader', 1), token: field('string', 2) }),
  StatusRequest: message({}),
  StatusResponse: message({
    header: field('ResponseHeader', 1),
    version: field('string', 2),
    dbSize: field('int64', 3),
    leader: field('uint64', 4),
  }),
};

export interface ResponseHeader {
  readonly clusterId: number;
  readonly memberId: number;
  readonly revision: number;
}

export interface KeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly modRevision: number;
}

export interface RangeRequest {
  readonly key: Buffer;
  readonly rangeEnd?: Buffer;
  readonly limit?: number;
  /** The state as of this revision; absent: the newest. */
  readonly revision?: number;
  readonly keysOnly?: boolean;
  readonly countOnly?: boolean;
}

export interface RangeResponse {
  readonly header: ResponseHeader;
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
  /** All keys of the range, also those beyond `limit`. */
  readonly count: number;
}

/** `result` 0 is "equal", `target` 2 is "revision of the last change", which is 0 for a key that is not there. */
export interface Compare {
  readonly key: Buffer;
  readonly result: 0;
  readonly target: 2;
  readonly modRevision: number;
}

export type RequestOp =
  | { readonly requestRange: RangeRequest }
  | { readonly requestPut: { readonly key: Buffer; readonly value: Buffer } }
  | { readonly requestDeleteRange: { readonly key: Buffer } };

export interface TxnRequest {
  readonly compare: readonly Compare[];
  readonly success: readonly RequestOp[];
  readonly failure: readonly RequestOp[];
}

export interface TxnResponse {
  readonly header: ResponseHeader;
  readonly succeeded: boolean;
  readonly responses: readonly { readonly responseRange?: RangeResponse | null }[];
}

export interface WatchRequest {
  readonly createRequest: {
    readonly key: Buffer;
    readonly rangeEnd: Buffer;
    readonly startRevision: number;
    readonly progressNotify: boolean;
    readonly prevKv: boolean;
    readonly fragment: boolean;
  };
}

export interface WatchEvent {
  /** 0 put, 1 delete. */
  readonly type: number;
  readonly kv: KeyValue;
  readonly prevKv: KeyValue | null;
}

export interface WatchResponse {
  readonly header: ResponseHeader;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compactRevision: number;
  readonly cancelReason: string;
  /** More of the same revisions follows. */
  readonly fragment: boolean;
  readonly events: readonly WatchEvent[];
}

export interface StatusResponse {
  readonly header: ResponseHeader;
  readonly version: string;
  /** Bytes. */
  readonly dbSize: number;
  readonly leader: number;
}

/** A method: what is sent and what comes back. */
export interface Method<Request, Response> {
  readonly path: string;
  readonly encode: (request: Request) => Buffer;
  readonly decode: (bytes: Buffer) => Response;
}

export interface EtcdMethods {
  readonly range: Method<RangeRequest, RangeResponse>;
  readonly txn: Method<TxnRequest, TxnResponse>;
  readonly watch: Method<WatchRequest, WatchResponse>;
  readonly authenticate: Method<
    { readonly name: string; readonly password: string },
    { readonly header: ResponseHeader; readonly token: string }
  >;
  readonly status: Method<Record<string, never>, StatusResponse>;
}

export function etcdMethods(): EtcdMethods {
  const definitions = fromJSON(
    { nested: { etcdserverpb: { nested: api }, mvccpb: { nested: kv } } } as unknown as Parameters<typeof fromJSON>[0],
    { longs: Number, defaults: true, oneofs: false },
  );
  const method = <Request extends object, Response>(service: string, name: string): Method<Request, Response> => {
    const found = (definitions[`etcdserverpb.${service}`] as Record<string, MethodDefinition<object, object>>)[name]!;
    return {
      path: found.path,
      encode: (request) => found.requestSerialize(request),
      decode: (bytes) => found.responseDeserialize(bytes) as Response,
    };
  };
  return {
    range: method('KV', 'Range'),
    txn: method('KV', 'Txn'),
    watch: method('Watch', 'Watch'),
    authenticate: method('Auth', 'Authenticate'),
    status: method('Maintenance', 'Status'),
  };
}
