// From an operation as plain data to its netlink message, and to the words that name it in an error. Pure.
import { unreachable } from '#base/errors.ts';
import * as address from './route/address.ts';
import * as link from './route/link.ts';
import * as neighbour from './route/neighbour.ts';
import * as route from './route/route.ts';
import * as rule from './route/rule.ts';
import type { Operation } from './types.ts';
import type { MessageBuilder } from './wire.ts';

/** Appends the one message of an operation. Throws `invalid-argument` for a malformed name or MAC address. */
export function encodeOperation(out: MessageBuilder, o: Operation): void {
  switch (o.op) {
    case 'link-get':
      return link.encodeLinkGet(out, o.link);
    case 'veth-add':
      return link.encodeVethAdd(out, o.veth);
    case 'bridge-add':
      return link.encodeBridgeAdd(out, o.bridge);
    case 'link-set':
      return link.encodeLinkSet(out, o.link, o.settings);
    case 'link-delete':
      return link.encodeLinkDelete(out, o.link);
    case 'group-delete':
      return link.encodeGroupDelete(out, o.group);
    case 'address-add':
      return address.encodeAddressAdd(out, o.address, false);
    case 'address-replace':
      return address.encodeAddressAdd(out, o.address, true);
    case 'address-delete':
      return address.encodeAddressDelete(out, o.address);
    case 'route-add':
      return route.encodeRoute(out, o.route, false);
    case 'route-replace':
      return route.encodeRoute(out, o.route, true);
    case 'route-delete':
      return route.encodeRouteDelete(out, o.route);
    case 'rule-add':
      return rule.encodeRule(out, o.rule, false);
    case 'rule-delete':
      return rule.encodeRule(out, o.rule, true);
    case 'neighbour-replace':
      return neighbour.encodeNeighbourReplace(out, o.neighbour);
    case 'neighbour-delete':
      return neighbour.encodeNeighbourDelete(out, o.ifindex, o.address);
    case 'proxy-add':
      return neighbour.encodeProxy(out, o.ifindex, o.address, false);
    case 'proxy-delete':
      return neighbour.encodeProxy(out, o.ifindex, o.address, true);
    case 'proxy-delay':
      return neighbour.encodeProxyDelay(out, o.family, o.ifindex, o.delayMs);
    default:
      return unreachable(o);
  }
}

/** What the operation does, after "cannot": `add route 10.0.0.0/8`. */
export function describeOperation(o: Operation): string {
  switch (o.op) {
    case 'link-get':
      return `look up interface ${o.link}`;
    case 'veth-add':
      return `create veth ${o.veth.name} with peer ${o.veth.peer.name}`;
    case 'bridge-add':
      return `create bridge ${o.bridge.name}`;
    case 'link-set':
      return `change interface ${o.link}`;
    case 'link-delete':
      return `delete interface ${o.link}`;
    case 'group-delete':
      return `delete the interfaces of group ${o.group}`;
    case 'address-add':
    case 'address-replace':
      return `add address ${o.address.address}/${o.address.prefixLength} to interface ${o.address.ifindex}`;
    case 'address-delete':
      return `delete address ${o.address.address}/${o.address.prefixLength} of interface ${o.address.ifindex}`;
    case 'route-add':
      return `add route ${o.route.destination}`;
    case 'route-replace':
      return `replace route ${o.route.destination}`;
    case 'route-delete':
      return `delete route ${o.route.destination}`;
    case 'rule-add':
      return `add rule ${o.rule.priority} for table ${o.rule.table}`;
    case 'rule-delete':
      return `delete rule ${o.rule.priority} for table ${o.rule.table}`;
    case 'neighbour-replace':
      return `set neighbour ${o.neighbour.address} on interface ${o.neighbour.ifindex}`;
    case 'neighbour-delete':
      return `delete neighbour ${o.address} of interface ${o.ifindex}`;
    case 'proxy-add':
    case 'proxy-delete':
      return `${o.op === 'proxy-add' ? 'answer' : 'stop answering'} for ${o.address} on interface ${o.ifindex}`;
    case 'proxy-delay':
      return `set the proxy delay of interface ${o.ifindex}`;
    default:
      return unreachable(o);
  }
}
