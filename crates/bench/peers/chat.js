// The plain serverless chat, as tutorials have it: a table of connections; a message is posted to each other one.
// It stores no message, knows no users, and forgets who could not be reached.
const { DynamoDBClient, DeleteItemCommand, PutItemCommand, ScanCommand } = require("@aws-sdk/client-dynamodb");
const { ApiGatewayManagementApiClient, PostToConnectionCommand } = require("@aws-sdk/client-apigatewaymanagementapi");

const TableName = process.env.TABLE;
const table = new DynamoDBClient({});
const gateway = new ApiGatewayManagementApiClient({ endpoint: process.env.CALLBACK_ENDPOINT });

exports.handler = async ({ requestContext: { routeKey, connectionId }, body }) => {
  const id = { S: connectionId };
  if (routeKey === "$connect") {
    await table.send(new PutItemCommand({ TableName, Item: { id } }));
  } else if (routeKey === "$disconnect") {
    await table.send(new DeleteItemCommand({ TableName, Key: { id } }));
  } else {
    const { Items } = await table.send(new ScanCommand({ TableName }));
    const others = Items.map((item) => item.id.S).filter((other) => other !== connectionId);
    await Promise.all(others.map(async (other) => {
      try {
        await gateway.send(new PostToConnectionCommand({ ConnectionId: other, Data: body }));
      } catch (error) {
        if (error.name !== "GoneException") throw error;
        await table.send(new DeleteItemCommand({ TableName, Key: { id: { S: other } } }));
      }
    }));
  }
  return { statusCode: 200 };
};
